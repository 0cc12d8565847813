// rnbd: the command line of both daemons.

#include "app/cli/verbs.h"

int main(int argc, char** argv) { return rnbd::cli::run_command_line({argv + 1, argv + argc}); }
