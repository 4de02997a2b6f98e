#include "dist/watchdog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "core/exit_code.h"
#include "core/log.h"
#include "core/process.h"
#include "dist/mailbox.h"
#include "dist/stacks.h"
#include "dist/watch_report.h"

namespace dm::dist {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr double kLongestBeat = 1;               // seconds
constexpr Seconds kForStacks{1.2};               // that ranks get to write theirs
constexpr int64_t kStepsBetweenComparisons = 5;  // of the ranks' busy times
constexpr int64_t kSlowInARow = 3;               // comparisons, before a rank is told to be slow

std::string beat_letter(const Activity::Snapshot& now) {
  return fmt::format("beat {} {} {} {} {} {}", now.step, now.busy_seconds, now.exchanges, int{now.inside},
                     now.progress, now.name);
}

}  // namespace

struct Watchdog::Impl {
  /// What this rank knows of another. Rank 0 follows all, the others only rank 0.
  struct Watched {
    RankStatus status;
    int64_t progress = -1;
    Clock::time_point heard = Clock::now(), moved = Clock::now();
    bool gone = false;  // it has said good-bye
    int64_t slow = 0;   // comparisons in a row
  };

  Impl(Environment& environment, double timeout)
      : environment(environment), timeout(timeout), beat(std::min(kLongestBeat, timeout / 5)) {}

  Environment& environment;
  const double timeout;  // seconds
  const double beat;     // seconds
  Activity activity;
  std::unique_ptr<Mailbox> mailbox;
  std::vector<Watched> ranks;  // all of them: for their hosts and processes
  int64_t compared_step = 0;

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<bool> ending = false;
  std::thread thread;

  bool judges() const { return environment.rank() == 0; }

  // ---- letters ----

  void tell(const std::string& letter) {
    for (int64_t to = judges() ? 1 : 0; to < (judges() ? environment.world() : 1); ++to)
      mailbox->post(to, letter);
  }

  void take_beat(Watched& from, std::istringstream& words) {
    RankStatus& status = from.status;
    int64_t inside = 0, progress = 0;
    words >> status.step >> status.busy_seconds >> status.exchanges >> inside >> progress;
    status.inside = inside != 0;
    std::getline(words >> std::ws, status.exchange);
    if (std::exchange(from.progress, progress) != progress) from.moved = Clock::now();
  }

  void read_letters() {
    while (const auto letter = mailbox->take()) {
      Watched& from = ranks[static_cast<size_t>(letter->from)];
      from.heard = Clock::now();
      std::istringstream words(letter->text);
      std::string kind;
      words >> kind;
      if (kind == "beat") take_beat(from, words);
      if (kind == "bye") from.gone = true;
      if (kind == "end") {
        std::vector<int64_t> culprits;
        for (int64_t rank = 0; words >> rank;) culprits.push_back(rank);
        show_stack(culprits);
      }
    }
  }

  void hear_oneself() {
    Watched& own = ranks[static_cast<size_t>(environment.rank())];
    std::istringstream words(beat_letter(activity.now()));
    words.ignore(5);
    own.heard = Clock::now();
    take_beat(own, words);
  }

  // ---- the end ----

  /// Into this rank's log. Whoever of its host was stopped is woken, to do the same.
  void show_stack(const std::vector<int64_t>& culprits) {
    for (const int64_t rank : culprits) {
      const RankStatus& culprit = ranks[static_cast<size_t>(rank)].status;
      if (rank != environment.rank() && culprit.host == process_identity().host)
        ::kill(static_cast<pid_t>(culprit.pid), SIGCONT);
    }
    log_info("the job hangs; where this rank is:");
    write_stack_of_main(log_descriptor());
  }

  [[noreturn]] void end_job(const Verdict& verdict) {
    log_error("{}\nevery rank's log has its stack; the job ends with {} and can be started again",
              verdict.message, static_cast<int>(ExitCode::lost));
    tell(fmt::format("end {}", fmt::join(verdict.culprits, " ")).substr(0, kLetterBytes));
    show_stack(verdict.culprits);
    const auto until = Clock::now() + kForStacks;
    while (Clock::now() < until) {
      mailbox->take();  // lets MPI move what was posted
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    environment.abort(static_cast<int>(ExitCode::lost));
  }

  // ---- judging ----

  std::vector<RankStatus> statuses() {
    std::vector<RankStatus> known;
    const auto now = Clock::now();
    for (Watched& rank : ranks) {
      if (rank.gone || (!judges() && rank.status.rank != 0)) continue;
      rank.status.silent_seconds = Seconds(now - rank.heard).count();
      rank.status.still_seconds = Seconds(now - rank.moved).count();
      known.push_back(rank.status);
    }
    // Only rank 0 sees enough to say that the job stands still.
    if (!judges())
      for (RankStatus& status : known) status.still_seconds = 0;
    return known;
  }

  void compare_speeds(const std::vector<RankStatus>& known) {
    int64_t step = known.empty() ? 0 : known.front().step;
    for (const RankStatus& status : known) step = std::min(step, status.step);
    if (!judges() || step < compared_step + kStepsBetweenComparisons) return;
    compared_step = step / kStepsBetweenComparisons * kStepsBetweenComparisons;  // however late the heartbeat
    const std::vector<int64_t> slow = stragglers(known);
    for (Watched& rank : ranks) {
      const bool is_slow = std::find(slow.begin(), slow.end(), rank.status.rank) != slow.end();
      rank.slow = is_slow ? rank.slow + 1 : 0;
      if (rank.slow == kSlowInARow)
        log_warn(
            "step {}: rank {} (process {} on {}) is busy for {:.0f} ms a step, several times as long as "
            "most: all wait for it",
            step, rank.status.rank, rank.status.pid, rank.status.host, rank.status.busy_seconds * 1e3);
    }
  }

  void run() {
    std::unique_lock lock(mutex);
    for (auto last = Clock::now(); !ending;) {
      wake.wait_for(lock, Seconds(beat), [&] { return ending.load(); });
      lock.unlock();
      tell(ending.load() ? std::string("bye") : beat_letter(activity.now()));
      // After having been stopped itself, a rank must hear the others before it judges them.
      const bool was_away = Seconds(Clock::now() - last).count() > timeout / 2;
      last = Clock::now();
      read_letters();
      hear_oneself();
      if (was_away)
        for (Watched& rank : ranks) rank.heard = rank.moved = last;
      const std::vector<RankStatus> known = statuses();
      if (const auto verdict = judge(known, timeout); verdict && !ending) end_job(*verdict);
      compare_speeds(known);
      lock.lock();
    }
  }
};

Watchdog::Watchdog(Environment& environment, const WatchdogConfig& config)
    : impl_(new Impl(environment, config.watchdog_seconds)) {
  Impl& my = *impl_;
  if (environment.world() == 1 || my.timeout <= 0) return;
  const auto group = environment.make_world_group();
  const std::string mine = fmt::format("{} {}", getpid(), process_identity().host);
  const std::vector<std::string> texts = group->gather_text(mine);
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    Impl::Watched watched;
    watched.status.rank = static_cast<int64_t>(rank);
    std::istringstream(texts[rank]) >> watched.status.pid >> watched.status.host;
    my.ranks.push_back(watched);
  }
  my.mailbox = environment.make_mailbox();
  watch_this_thread();
  my.thread = std::thread([&my] { my.run(); });
}

Watchdog::~Watchdog() {
  if (!impl_->thread.joinable()) return;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

Activity& Watchdog::activity() { return impl_->activity; }

}  // namespace dm::dist
