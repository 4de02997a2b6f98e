#include "dist/mpi_mailbox.h"

#include "dist/mpi_check.h"

namespace dm::dist {

MpiMailbox::~MpiMailbox() {
  for (auto& [to, sent] : sent_)
    if (sent.request != MPI_REQUEST_NULL) {
      MPI_Cancel(&sent.request);
      MPI_Request_free(&sent.request);
    }
  MPI_Comm_free(&comm_);
}

bool MpiMailbox::post(int64_t to, const std::string& letter) {
  DM_CHECK(static_cast<int64_t>(letter.size()) <= kLetterBytes, "a letter of {} bytes", letter.size());
  Sent& sent = sent_[to];
  int left = 1;
  if (sent.request != MPI_REQUEST_NULL) DM_MPI(MPI_Test(&sent.request, &left, MPI_STATUS_IGNORE));
  if (!left) return false;
  sent.text = letter;
  DM_MPI(MPI_Isend(sent.text.data(), static_cast<int>(sent.text.size()), MPI_BYTE, static_cast<int>(to), 0,
                   comm_, &sent.request));
  return true;
}

std::optional<Mailbox::Letter> MpiMailbox::take() {
  int there = 0;
  MPI_Status status;
  DM_MPI(MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_, &there, &status));
  if (!there) return std::nullopt;
  int size = 0;
  DM_MPI(MPI_Get_count(&status, MPI_BYTE, &size));
  Letter letter{status.MPI_SOURCE, std::string(static_cast<size_t>(size), '\0')};
  DM_MPI(MPI_Recv(letter.text.data(), size, MPI_BYTE, status.MPI_SOURCE, 0, comm_, MPI_STATUS_IGNORE));
  return letter;
}

}  // namespace dm::dist
