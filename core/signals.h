#pragma once
// Signals that ask a command to end in good order. The handlers only set a flag.

namespace dm {

enum class StopRequest : int { none = 0, save_and_stop = 1, interrupt = 2 };

/// SIGUSR1, SIGTERM and SIGHUP (the terminal is gone) ask for save_and_stop, SIGINT for interrupt; a second
/// SIGINT or SIGTERM ends the process at once (nothing on disk is half-written then either). A SIGHUP that
/// was ignored before, as nohup does, stays ignored; signals that whoever started us had blocked arrive
/// again. SIGPIPE and SIGXFSZ (ulimit -f) are ignored: the calls that raise them fail with an error instead.
void install_signal_handlers();
/// Every such signal is noted at once in this file, with its sender, "signal 15 from process 4711": what ends
/// a job may leave it no time for more. -1: nowhere.
void note_signals_in(int fd);
/// The strongest request so far.
StopRequest stop_requested();

}  // namespace dm
