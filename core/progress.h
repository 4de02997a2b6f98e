#pragma once
// Long work without exchanges or steps tells here that it goes on, from whichever thread does it: a chunk of
// a checkpoint read or written, a batch evaluated. A watchdog (dist/watchdog.h) listens.

#include <cstdint>

namespace dm {

void made_progress();
/// How often it was called in this process.
int64_t progress_made();

}  // namespace dm
