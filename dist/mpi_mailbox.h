#pragma once
// dist/mailbox.h over MPI. Only dist/environment.cpp includes this.

#include <mpi.h>

#include <map>
#include <string>

#include "dist/mailbox.h"

namespace dm::dist {

class MpiMailbox final : public Mailbox {
 public:
  /// Takes ownership of the communicator.
  explicit MpiMailbox(MPI_Comm comm) : comm_(comm) {}
  ~MpiMailbox() override;
  bool post(int64_t to, const std::string& letter) override;
  std::optional<Letter> take() override;

 private:
  struct Sent {
    std::string text;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  MPI_Comm comm_;
  std::map<int64_t, Sent> sent_;  // the last to each rank
};

}  // namespace dm::dist
