"""The description of the HTTP API, as OpenAPI 3.1: GET /v1/openapi.json, and the page /docs/api made of it.

drf-spectacular finds the routes; what each one takes and answers is an `Operation`, in the room of its surface
(native.py, files.py, …), under its method and path. A route under /v1 without one fails tests/test_openapi.py, and so
does a field, a status or an error code that is answered and not described.
"""
