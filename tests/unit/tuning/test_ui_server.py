"""The server of ``cpsc-tune ui``: not where another listens, whose pages would be taken for ours."""

import socket

import pytest

from cpsc.errors import ConfigError
from tests.support.servers import free_port
from tuning.tracking.ui_server import HOST, check_free


def test_a_port_where_another_program_listens_is_refused() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot be opened .*; choose another port"):
            check_free(port)


def test_a_free_port_is_left_free() -> None:
    port = free_port()
    check_free(port)
    check_free(port)
