"""The one exception that becomes an HTTP error body, raised by any room below the project."""

LASTING = {"x-should-retry": "false"}  # OpenAI's SDKs would ask again after any 409


class Refused(Exception):
    """A request that is answered with an error.

    `status` is HTTP's, `code` is stable and documented in docs/errors.md, `message` says what is wrong and what
    to do, `param` names the field, `headers` go out with the answer (Retry-After; a 409 without it lasts).
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.headers = status, code, message, param, headers or {}
        if status == 409 and "Retry-After" not in self.headers:
            self.headers = {**self.headers, **LASTING}

    @property
    def type(self) -> str:
        """The error's family, as OpenAI names them."""
        families = {
            401: "authentication_error",
            402: "billing_error",
            403: "permission_error",
            404: "not_found_error",
            429: "rate_limit_error",
        }
        return families.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")


def busy() -> Refused:
    """Too many transfers at once: the answer that keeps threads free for everybody else."""
    return Refused(
        503,
        "too_many_transfers",
        "Too many uploads or downloads run at once: try again in a moment.",
        headers={"Retry-After": "5"},
    )


def too_slow() -> Refused:
    """A body that does not come: the answer is the connection's last."""
    return Refused(
        408,
        "request_timeout",
        "The request's body came too slowly, or not at all: send it again, over a better connection.",
        headers={"Connection": "close"},
    )
