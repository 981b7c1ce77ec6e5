"""Streams a URL to standard output, going on from a byte offset where the server allows it.

usage: fetch.py URL OFFSET

The first line of output is "START TOTAL": the offset of the first byte that follows (0 where the server can't resume) and the
size of the whole file. Takes pip's settings for certificates, proxy and time-out from the environment, as pip does.
"""
import os
import shutil
import ssl
import sys
import urllib.error
import urllib.request

url, offset = sys.argv[1], int(sys.argv[2])
environment = os.environ.get

certificates = ssl.create_default_context()
bundle = environment("PIP_CERT") or environment("REQUESTS_CA_BUNDLE") or environment("CURL_CA_BUNDLE")
default = ssl.get_default_verify_paths()
if not (bundle or default.cafile or default.capath):
    from pip._vendor import certifi

    bundle = certifi.where()
if bundle:
    certificates.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})

handlers = [urllib.request.HTTPSHandler(context=certificates)]
if proxy := environment("PIP_PROXY"):
    handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))

request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
timeout = float(environment("PIP_DEFAULT_TIMEOUT") or 60)
try:
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
        start = offset if response.status == 206 else 0
        print(start, start + int(response.headers["Content-Length"]), flush=True)
        shutil.copyfileobj(response, sys.stdout.buffer, 1 << 20)
except BrokenPipeError:
    # The reader is gone; the rest is for the next run.
    os._exit(1)
except urllib.error.HTTPError as error:
    if error.code != 416:
        sys.exit(str(error))
    # Nothing lies beyond the offset: the file is whole.
    print(offset, offset)
except OSError as error:
    sys.exit(str(error))
