import sys

from gb10 import cli

sys.exit(cli.main(sys.argv[1:]))
