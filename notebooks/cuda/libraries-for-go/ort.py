"""Asks ONNX Runtime through its C interface what an error is like, then frees one of its texts."""

import ctypes
import sys
from typing import Any

# Places in the table of functions, which the interface never changes (onnxruntime_c_api.h).
GET_ERROR_MESSAGE, CREATE_ENV, CREATE_SESSION_FROM_ARRAY, CREATE_SESSION_OPTIONS = 2, 3, 8, 10
API = 14  # a version that all releases of these years take
Pointer = ctypes.c_void_p


class Base(ctypes.Structure):
    """OrtApiBase."""

    _fields_ = [
        ("api", ctypes.CFUNCTYPE(Pointer, ctypes.c_uint32)),
        ("version", ctypes.CFUNCTYPE(Pointer)),
    ]


def main() -> None:
    library = ctypes.CDLL(sys.argv[1])
    library.OrtGetApiBase.restype = ctypes.POINTER(Base)
    base = library.OrtGetApiBase().contents
    table = ctypes.cast(base.api(API), ctypes.POINTER(Pointer))
    made = ctypes.byref

    def call(place: int, *arguments: Any, result: Any = Pointer) -> Any:
        kinds = [type(a) if isinstance(a, ctypes._SimpleCData) else Pointer for a in arguments]
        return ctypes.CFUNCTYPE(result, *kinds, use_errno=True)(table[place])(*arguments)

    environment, options, session = Pointer(), Pointer(), Pointer()
    call(CREATE_ENV, ctypes.c_int(2), ctypes.c_char_p(b"asked"), made(environment))
    call(CREATE_SESSION_OPTIONS, made(options))
    ctypes.set_errno(0)
    model = ctypes.c_char_p(b"no model")
    status = call(
        CREATE_SESSION_FROM_ARRAY, environment, model, ctypes.c_size_t(8), options, made(session)
    )
    error = ctypes.get_errno()
    message = call(GET_ERROR_MESSAGE, Pointer(status), result=ctypes.c_char_p) if status else b""
    print(f"status {'set' if status else 'null'}, errno {error}: {message.decode()}")
    text = base.version()
    print("version", ctypes.string_at(text).decode(), flush=True)
    free = ctypes.CDLL(None).free
    free.argtypes = [Pointer]
    free(text)
    print("freed")


if __name__ == "__main__":
    main()
