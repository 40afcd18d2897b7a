"""Test options only: pytester for the plugin's own tests, and Ctrl-C for what tests start."""

import signal

pytest_plugins = ["pytester"]

# A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that: tests that interrupt
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
