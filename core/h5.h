#pragma once
// What a .cpp file that calls libhdf5 needs: the one lock, owned identifiers, errors as exceptions. It
// includes hdf5.h, so no public header includes it.
//
//   const H5Lock lock;
//   const H5Id file(DM_H5(H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), path, "open"), H5Fclose);

#define H5_USE_110_API  // one spelling of the API, whatever later libhdf5 is installed
#include <hdf5.h>

#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace dm {

/// Held around every call into libhdf5, once (it does not nest). Taking it also silences libhdf5's own error
/// printing in this thread (its error stacks are per thread), and the first one in the process turns the
/// loading of filter plugins off.
class H5Lock {
 public:
  H5Lock();

 private:
  std::lock_guard<std::mutex> guard_;
};

/// An owned libhdf5 identifier and the function that closes it.
class H5Id {
 public:
  H5Id() = default;
  H5Id(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  H5Id(H5Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  H5Id& operator=(H5Id&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~H5Id() {
    if (id_ >= 0) close_(id_);
  }

  operator hid_t() const { return id_; }
  /// Closes now and answers what libhdf5 answered: closing a file writes, so it can fail.
  herr_t close() { return close_(std::exchange(id_, -1)); }

 private:
  hid_t id_ = -1;
  herr_t (*close_)(hid_t) = nullptr;
};

/// A file access list for both directions: libhdf5's file locking off (network file systems refuse it, and
/// our files are guarded by the run's own lock), the 1.8 format (checksums in the metadata, readable by every
/// libhdf5 since), and no object left open behind a closed file.
H5Id h5_file_access();

/// Calls check(i) for every path i in one child process with limits on address space, CPU time and file size,
/// because libhdf5 crashes on some damaged files. What a check throws is thrown here; a crash or a hang
/// throws ExitCode::bad_data naming the file. h5_validate.cpp says why forking is safe and what a check may
/// use.
void check_in_child(const std::vector<std::string>& paths, const std::function<void(size_t)>& check);

namespace detail {
/// The innermost message of libhdf5's error stack, which is then cleared.
std::string h5_message();

template <class Result>
Result h5_checked(Result result, const std::string& where, const char* operation, const char* file,
                  int line) {
  if (result < 0) [[unlikely]]
    throw Error(ExitCode::bad_data, fmt::format("{}: libhdf5 cannot {}: {}", where, operation, h5_message()),
                file, line);
  return result;
}
}  // namespace detail
}  // namespace dm

/// The result of a libhdf5 call; a negative one throws ExitCode::bad_data: "WHERE: libhdf5 cannot OPERATION:
/// its reason".
#define DM_H5(call, where, operation) \
  ::dm::detail::h5_checked((call), (where), (operation), __FILE__, __LINE__)
