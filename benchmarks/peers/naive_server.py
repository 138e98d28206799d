"""What a first server looks like: FastAPI, eager torch, PIL, one picture a request. Arguments: weights, port."""

from __future__ import annotations

import io
import sys

import timm
import torch
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from safetensors.torch import load_file

SIDE = 256

model = timm.create_model("tf_efficientnet_lite0")
model.load_state_dict(load_file(sys.argv[1]))
model.reset_classifier(2)
model.eval()
transform = timm.data.create_transform(SIDE, is_training=False, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.875)
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> dict[str, list[float]]:
    image = Image.open(io.BytesIO(await request.body())).convert("RGB")
    with torch.no_grad():
        logits = model(transform(image)[None])
    return {"probabilities": logits.softmax(1)[0].tolist()}


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
