"""This description's own address: api/reference.py."""

from batches.api.openapi.operations import JSON, Operation

TAG = "About"
ETAG = {"description": "Changes with the description.", "schema": {"type": "string"}}

OPERATIONS = {
    "GET /v1/openapi.json": Operation(
        "readDescription",
        TAG,
        "This description, as OpenAPI 3.1",
        {
            200: {
                "description": "The description.",
                "headers": {"ETag": ETAG},
                "content": {JSON: {"schema": {"type": "object"}}},
            },
            304: {"description": "You have it already.", "headers": {"ETag": ETAG}},
        },
        "Needs no key.",
        public=True,
    )
}
