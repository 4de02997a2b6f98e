// Preloaded into a program under test, this answers some calls otherwise than the kernel does. DM_LIE says
// which:
//   rename   renameat2() is done, and reported to have failed (EIO), as a network file system does whose
//   answer was lost clock    the wall clock jumps by 400 days, forwards and back, every second; the monotonic
//   clock goes on

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace {
bool lies(const char* about) {
  const char* setting = std::getenv("DM_LIE");
  return setting != nullptr && std::strcmp(setting, about) == 0;
}

int true_time(clockid_t clock, timespec* now) {
  return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
}
}  // namespace

extern "C" {

int renameat2(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) {
  const auto result = static_cast<int>(syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
  if (result != 0 || !lies("rename")) return result;
  errno = EIO;
  return -1;
}

int clock_gettime(clockid_t clock, timespec* now) {
  const int result = true_time(clock, now);
  constexpr time_t kJump = 400 * 86400;  // seconds
  if (result == 0 && clock == CLOCK_REALTIME && lies("clock")) {
    timespec steady;
    true_time(CLOCK_MONOTONIC, &steady);
    now->tv_sec += steady.tv_sec % 2 == 0 ? kJump : -kJump;
  }
  return result;
}

int gettimeofday(timeval* now, void*) {
  timespec exact;
  const int result = clock_gettime(CLOCK_REALTIME, &exact);
  *now = {exact.tv_sec, exact.tv_nsec / 1000};
  return result;
}

time_t time(time_t* seconds) {
  timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (seconds != nullptr) *seconds = exact.tv_sec;
  return exact.tv_sec;
}
}
