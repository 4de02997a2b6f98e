#pragma once
// Signals that ask a command to end in good order. The handlers only set a flag.

namespace dm {

enum class StopRequest : int { none = 0, save_and_stop = 1, interrupt = 2 };

/// SIGUSR1 and SIGTERM ask for save_and_stop, SIGINT for interrupt; a second SIGINT or SIGTERM ends the
/// process at once (nothing on disk is half-written then either). SIGPIPE and SIGXFSZ (ulimit -f) are
/// ignored: the calls that raise them fail with an error instead.
void install_signal_handlers();
/// The strongest request so far.
StopRequest stop_requested();

}  // namespace dm
