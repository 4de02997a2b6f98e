#include "dist/environment.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include "core/log.h"
#include "core/process.h"
#include "dist/mpi_check.h"
#include "dist/mpi_collectives.h"
#include "dist/mpi_mailbox.h"
#include "dist/shared_memory.h"

extern "C" char** environ;

namespace dm::dist {
namespace {

bool environment_has(const char* prefix) {
  for (char** entry = environ; entry && *entry; ++entry)
    if (std::strncmp(*entry, prefix, std::strlen(prefix)) == 0) return true;
  return false;
}

int64_t environment_number(const char* name) {
  const char* text = std::getenv(name);
  int64_t value = 0;
  if (text) std::from_chars(text, text + std::strlen(text), value);
  return value;
}

/// How many processes the launcher says it started together, and which variable says so. Ranks of an mpirun
/// inside a SLURM job see the variables of both; mpirun's count then.
struct Launch {
  int64_t processes = 1;
  const char* variable = "";
};
Launch launch() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (std::getenv(variable)) return {std::max<int64_t>(1, environment_number(variable)), variable};
  return {};
}

void refuse_singletons(const Launch& launch) {
  DM_FAIL(ExitCode::usage,
          "the launcher started {} processes ({}), but MPI sees each of them alone: they would all train the "
          "same model and "
          "overwrite each other; start the ranks with the mpirun of the MPI this program is linked with, or "
          "with srun --mpi=pmix",
          launch.processes, launch.variable);
}

struct Place {
  int rank = 0;
  int size = 1;
};
Place place_in(MPI_Comm comm) {
  Place place;
  DM_MPI(MPI_Comm_rank(comm, &place.rank));
  DM_MPI(MPI_Comm_size(comm, &place.size));
  return place;
}

}  // namespace

struct Environment::Impl {
  Place world, local;
  // For all_end_with: no other message may stand in its way, and what it sends and receives must outlive it.
  MPI_Comm ending = MPI_COMM_NULL;
  int code[2] = {}, largest[2] = {};
  int exceptions_at_start = std::uncaught_exceptions();
};

bool launched_in_parallel() { return launch().processes > 1; }

int64_t launched_rank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "SLURM_PROCID"})
    if (std::getenv(variable)) return environment_number(variable);
  return 0;
}

Environment::Environment(int& argc, char**& argv) : impl_(std::make_unique<Impl>()) {
  const Launch said = launch();
  // srun without a PMI plugin: Open MPI would end the process inside MPI_Init, with a code and a message of
  // its own.
  const bool by_srun = said.processes > 1 && std::strcmp(said.variable, "SLURM_STEP_NUM_TASKS") == 0;
  if (by_srun && !environment_has("PMIX_") && !environment_has("PMI_")) refuse_singletons(said);

  int provided = MPI_THREAD_SINGLE;
  DM_MPI(MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided));
  try {
    DM_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    DM_MPI(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN));
    DM_REQUIRE(provided == MPI_THREAD_MULTIPLE, ExitCode::usage,
               "this MPI gives thread level {} only; link one built with MPI_THREAD_MULTIPLE", provided);
    impl_->world = place_in(MPI_COMM_WORLD);
    if (impl_->world.size == 1 && said.processes > 1) refuse_singletons(said);
    MPI_Comm host = MPI_COMM_NULL;
    DM_MPI(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, impl_->world.rank, MPI_INFO_NULL, &host));
    impl_->local = place_in(host);
    DM_MPI(MPI_Comm_free(&host));
    DM_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &impl_->ending));
  } catch (...) {
    if (impl_->world.size == 1) MPI_Finalize();
    throw;
  }
  set_process_identity(rank(), world());
  if (local_rank() == 0)
    for (const std::string& path : remove_orphaned_segments())
      log_debug("{}: left by a job that was killed; removed", path);
}

Environment::~Environment() {
  if (world() > 1 && std::uncaught_exceptions() > impl_->exceptions_at_start) {
    log_error("rank {} ends the job: an exception left it while {} other ranks go on", rank(), world() - 1);
    abort(static_cast<int>(ExitCode::internal));
  }
  MPI_Comm_free(&impl_->ending);
  MPI_Finalize();
}

int64_t Environment::rank() const { return impl_->world.rank; }
int64_t Environment::world() const { return impl_->world.size; }
int64_t Environment::local_rank() const { return impl_->local.rank; }
int64_t Environment::local_world() const { return impl_->local.size; }

void Environment::abort(int exit_code) {
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

bool Environment::all_end_with(int exit_code) {
  int *code = impl_->code, *largest = impl_->largest;
  code[0] = exit_code,
  code[1] = -exit_code;  // the largest and the smallest over all ranks: one only if all agree
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Iallreduce(code, largest, 2, MPI_INT, MPI_MAX, impl_->ending, &request) != MPI_SUCCESS)
    return false;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  for (int done = 0; std::chrono::steady_clock::now() < deadline;) {
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    if (done) return largest[0] == exit_code && largest[1] == -exit_code;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::unique_ptr<Collectives> Environment::make_world_group(int64_t message_limit_bytes) {
  MPI_Comm comm = MPI_COMM_NULL;
  DM_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
  return std::make_unique<MpiCollectives>(comm, message_limit_bytes);
}

std::unique_ptr<Collectives> Environment::make_group(int64_t color) {
  MPI_Comm comm = MPI_COMM_NULL;
  DM_MPI(MPI_Comm_split(MPI_COMM_WORLD, static_cast<int>(color), impl_->world.rank, &comm));
  return std::make_unique<MpiCollectives>(comm, kMessageLimitBytes);
}

std::unique_ptr<Mailbox> Environment::make_mailbox() {
  MPI_Comm comm = MPI_COMM_NULL;
  DM_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
  return std::make_unique<MpiMailbox>(comm);
}

}  // namespace dm::dist
