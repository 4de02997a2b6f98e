#include "core/process.h"

#include <unistd.h>

#include <climits>

namespace dm {
namespace {
std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown-host";
}

ProcessIdentity& identity() {
  static ProcessIdentity instance{0, 1, host_name()};
  return instance;
}
}  // namespace

const ProcessIdentity& process_identity() { return identity(); }

void set_process_identity(int64_t rank, int64_t world) {
  identity().rank = rank;
  identity().world = world;
}

}  // namespace dm
