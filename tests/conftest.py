"""For the whole suite."""

import signal

# A shell without job control starts what it puts into the background with Ctrl-C ignored, and every process started
# from there inherits that. Tests of Ctrl-C would then wait for nothing: take it up again, for all the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
