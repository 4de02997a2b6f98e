#pragma once
// The call stack of a thread that hangs, written into a log while it hangs.

namespace dm::dist {

/// From here on write_stack_of_main() shows the thread that calls this.
void watch_this_thread();
/// Interrupts that thread wherever it is and has it write its stack into `fd`; returns after a moment,
/// written or not.
void write_stack_of_main(int fd);

}  // namespace dm::dist
