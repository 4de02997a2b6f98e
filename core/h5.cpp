#include "core/h5.h"

namespace dm {

namespace {
// Not a recursive mutex: glibc knows the owner of one by its thread number, which a fork changes, so that the
// child could never unlock it (h5_validate.cpp forks while it is held).
std::mutex library_mutex;
}  // namespace

H5Lock::H5Lock() : guard_(library_mutex) {
  static const bool ready = [] {
    H5dont_atexit();  // everything is closed by its owner; what a failed close left would crash at exit
    H5open();
    H5PLset_loading_state(0);  // a file must not be able to name code that we then load
    return true;
  }();
  (void)ready;
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

H5Id h5_file_access() {
  H5Id list(DM_H5(H5Pcreate(H5P_FILE_ACCESS), "HDF5", "make a file access list"), H5Pclose);
  DM_H5(H5Pset_file_locking(list, false, true), "HDF5", "turn file locking off");
  DM_H5(H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V18), "HDF5", "choose the 1.8 format");
  DM_H5(H5Pset_fclose_degree(list, H5F_CLOSE_STRONG), "HDF5", "choose how files close");
  return list;
}

namespace detail {
std::string h5_message() {
  std::string message;
  const auto keep_last = [](unsigned, const H5E_error2_t* error, void* to) -> herr_t {
    if (error->desc != nullptr && *error->desc) *static_cast<std::string*>(to) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_last,
           &message);  // from the API call inwards: the last is the cause
  H5Eclear2(H5E_DEFAULT);
  return message.empty() ? "no reason given" : message;
}
}  // namespace detail
}  // namespace dm
