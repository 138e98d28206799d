"""What both sides know: pictures, preprocessing, the predictor, the model folder, figures."""
