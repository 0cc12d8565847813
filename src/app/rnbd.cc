// rnbd: the command line of both daemons.

#include "app/cli/verbs.h"

int main(int argc, char** argv) {
  if (argc < 1) return 2;
  return rnbd::cli::run_command_line({argv + 1, argv + argc}, argv[0]);
}
