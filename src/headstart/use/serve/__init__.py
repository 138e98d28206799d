"""The server: pictures in over HTTP, answers out, without torch.

limits      how much a client may ask for
pool        the threads that decode and run the network; the bounded queue before them
models      the models served, and picking up new ones
bodies      request bodies -> pictures in memory, never on disk
front       the page at /, whose files are in page/
heat        heat maps on demand
guards      API keys, whose pages may call, headers that browsers obey
schema      what the API says of itself (OpenAPI)
metrics     what Prometheus reads
log         one JSON object a line on standard error
frame       what is around every request: guards, headers, our own failures, log and metrics
app         the routes
run         the process: socket, signals, graceful stop
"""
