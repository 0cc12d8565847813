#pragma once
// libfuse's low-level API, in the version we write to.
#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
