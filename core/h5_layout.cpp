#include "core/h5_layout.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/h5.h"

namespace dm {
namespace {

// Bounds that no file of ours comes near and that keep a hostile one from costing much.
constexpr int kMaxRank = 8;
constexpr size_t kMaxAttributeBytes = 32 << 10;
constexpr hsize_t kMaxAttributes = 256;
constexpr hsize_t kMaxObjects = 1 << 20;
constexpr size_t kMaxNameBytes = 1024;

constexpr DType kDTypes[] = {DType::u8,  DType::u16,  DType::u32, DType::u64, DType::i32,
                             DType::i64, DType::bf16, DType::f32, DType::f64};

hid_t h5_type(DType dtype) {
  switch (dtype) {
    case DType::u8: return H5T_STD_U8LE;
    case DType::u16:
    case DType::bf16: return H5T_STD_U16LE;
    case DType::u32: return H5T_STD_U32LE;
    case DType::u64: return H5T_STD_U64LE;
    case DType::i32: return H5T_STD_I32LE;
    case DType::i64: return H5T_STD_I64LE;
    case DType::f32: return H5T_IEEE_F32LE;
    case DType::f64: return H5T_IEEE_F64LE;
  }
  DM_FAIL(ExitCode::internal, "dtype {} has no HDF5 type", static_cast<int>(dtype));
}

// --- creating
// ----------------------------------------------------------------------------------------------------------

H5Id string_type(size_t length) {
  H5Id type(DM_H5(H5Tcopy(H5T_C_S1), "HDF5", "copy a type"), H5Tclose);
  DM_H5(H5Tset_size(type, std::max<size_t>(length, 1)), "HDF5", "size a text type");
  DM_H5(H5Tset_strpad(type, H5T_STR_NULLPAD), "HDF5", "pad a text type");
  return type;
}

void write_attribute(hid_t root, const std::string& where, const std::string& name,
                     const H5Attribute& value) {
  const H5Id space(DM_H5(H5Screate(H5S_SCALAR), where, "make a scalar"), H5Sclose);
  const auto write = [&](hid_t type, const void* data) {
    H5Id attribute(DM_H5(H5Acreate2(root, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), where,
                         "create an attribute"),
                   H5Aclose);
    DM_H5(H5Awrite(attribute, type, data), where, "write an attribute");
    DM_H5(attribute.close(), where, "close an attribute");
  };
  if (const auto* number = std::get_if<uint64_t>(&value)) return write(H5T_STD_U64LE, number);
  const auto& text = std::get<std::string>(value);
  DM_CHECK(text.size() <= kMaxAttributeBytes && text.find('\0') == std::string::npos,
           "{}: attribute {} is no text of at most {} bytes", where, name, kMaxAttributeBytes);
  write(string_type(text.size()), text.empty() ? "\0" : text.c_str());
}

/// Times are not tracked (they would differ from run to run); links and attributes keep the order they were
/// made in.
H5Id group_creation(hid_t list_class) {
  H5Id list(DM_H5(H5Pcreate(list_class), "HDF5", "make a creation list"), H5Pclose);
  DM_H5(H5Pset_obj_track_times(list, false), "HDF5", "turn object times off");
  DM_H5(H5Pset_link_creation_order(list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED), "HDF5",
        "track the order of links");
  DM_H5(H5Pset_attr_phase_change(list, kMaxAttributes, kMaxAttributes), "HDF5",
        "keep attributes in the header");
  return list;
}

void create_dataset(hid_t file, const std::string& where, H5Dataset& dataset) {
  const std::vector<hsize_t> dims(dataset.shape.begin(), dataset.shape.end());
  const H5Id space(DM_H5(dims.empty() ? H5Screate(H5S_SCALAR)
                                      : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                         where, "make a dataspace"),
                   H5Sclose);
  const H5Id list(DM_H5(H5Pcreate(H5P_DATASET_CREATE), where, "make a creation list"), H5Pclose);
  DM_H5(H5Pset_obj_track_times(list, false), where, "turn object times off");
  DM_H5(H5Pset_layout(list, H5D_CONTIGUOUS), where, "choose the layout");
  DM_H5(H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY), where, "choose early allocation");
  DM_H5(H5Pset_fill_time(list, H5D_FILL_TIME_NEVER), where, "turn filling off");
  H5Id id(DM_H5(H5Dcreate2(file, dataset.path.c_str(), h5_type(dataset.dtype), space, H5P_DEFAULT, list,
                           H5P_DEFAULT),
                where, "create a dataset"),
          H5Dclose);
  const haddr_t offset = H5Dget_offset(id);
  dataset.offset_bytes = offset == HADDR_UNDEF ? -1 : static_cast<int64_t>(offset);
  DM_CHECK((dataset.offset_bytes < 0) == (dataset.count() == 0), "{}: libhdf5 reserved no room for {}", where,
           dataset.path);
  DM_H5(id.close(), where, "close a dataset");
}

/// "/group/name" -> "group"; "/name" -> "".
std::string group_of(const std::string& path) {
  const size_t slash = path.find('/', 1);
  const bool legal =
      path.size() > 1 && path.size() <= kMaxNameBytes && path[0] == '/' && path.back() != '/' &&
      (slash == std::string::npos || (slash > 1 && path.find('/', slash + 1) == std::string::npos));
  DM_CHECK(legal, "'{}' is no dataset path of one level of groups at most", path);
  return slash == std::string::npos ? "" : path.substr(1, slash - 1);
}

// --- reading
// -----------------------------------------------------------------------------------------------------------

uint64_t little_endian(const unsigned char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

/// The superblock as create_h5's libhdf5 writes it: version 2 at byte 0, 8-byte offsets and lengths, base 0,
/// no extension, closed properly, and an end-of-file address that is the file's size. Returns that size.
int64_t check_superblock(const std::string& path) {
  struct stat info {};
  DM_SYS(lstat(path.c_str(), &info), "open", path);
  DM_REQUIRE(!S_ISLNK(info.st_mode), ExitCode::bad_data, "{}: a symbolic link; name the file itself", path);
  DM_REQUIRE(S_ISREG(info.st_mode), ExitCode::bad_data, "{}: not a regular file", path);
  const File file = File::open(path, O_RDONLY | O_NOFOLLOW);
  unsigned char bytes[48];
  DM_REQUIRE(info.st_size >= static_cast<int64_t>(sizeof bytes), ExitCode::bad_data,
             "{}: {} bytes are too few for an HDF5 file", path, static_cast<int64_t>(info.st_size));
  file.read_at(bytes, sizeof bytes, 0);
  DM_REQUIRE(std::memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0, ExitCode::bad_data, "{}: not an HDF5 file",
             path);
  DM_REQUIRE(bytes[8] == 2 && bytes[9] == 8 && bytes[10] == 8 && bytes[11] == 0 &&
                 little_endian(bytes + 12) == 0 && little_endian(bytes + 20) == UINT64_MAX,
             ExitCode::bad_data,
             "{}: its HDF5 superblock is not of the kind this program writes (version 2, no extension)",
             path);
  const uint64_t end = little_endian(bytes + 28);
  DM_REQUIRE(end == static_cast<uint64_t>(info.st_size), ExitCode::bad_data,
             "{}: {} bytes long, but it says {}: it was cut off or added to; restore it", path,
             static_cast<int64_t>(info.st_size), end);
  return info.st_size;
}

/// Reads one file. `path` names it, `where` the object in it, in messages.
class LayoutReader {
 public:
  explicit LayoutReader(const std::string& path) : path_(path) {}

  H5Layout read() {
    layout_.file_size_bytes = check_superblock(path_);
    const H5Lock lock;
    const H5Id access = h5_file_access();
    const H5Id file(DM_H5(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access), path_, "open it"), H5Fclose);
    const H5Id root(DM_H5(H5Gopen2(file, "/", H5P_DEFAULT), path_, "open the root group"), H5Gclose);
    read_attributes(root);
    read_links(root, "/");
    check_storage();
    return std::move(layout_);
  }

 private:
  void read_attributes(hid_t root) {
    for (hsize_t i = 0, count = attribute_count(root, path_); i < count; ++i) {
      const H5Id attribute(
          DM_H5(H5Aopen_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT), path_,
                "open an attribute"),
          H5Aclose);
      char name[kMaxNameBytes + 1] = {};
      const ssize_t length = DM_H5(H5Aget_name(attribute, sizeof name, name), path_, "name an attribute");
      const std::string where = fmt::format("{}: attribute '{}'", path_, name);
      DM_REQUIRE(length <= static_cast<ssize_t>(kMaxNameBytes), ExitCode::bad_data,
                 "{}: its name is too long", where);
      const H5Id space(DM_H5(H5Aget_space(attribute), where, "read its dataspace"), H5Sclose);
      DM_REQUIRE(H5Sget_simple_extent_type(space) == H5S_SCALAR, ExitCode::bad_data, "{}: not a single value",
                 where);
      layout_.attributes[name] = read_attribute(attribute, where);
    }
  }

  static H5Attribute read_attribute(hid_t attribute, const std::string& where) {
    const H5Id type(DM_H5(H5Aget_type(attribute), where, "read its type"), H5Tclose);
    if (DM_H5(H5Tequal(type, H5T_STD_U64LE), where, "compare its type")) {
      uint64_t value = 0;
      DM_H5(H5Aread(attribute, H5T_STD_U64LE, &value), where, "read it");
      return value;
    }
    DM_REQUIRE(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0, ExitCode::bad_data,
               "{}: neither an unsigned 64-bit number nor text of fixed length", where);
    const size_t size = H5Tget_size(type);
    DM_REQUIRE(size > 0 && size <= kMaxAttributeBytes, ExitCode::bad_data, "{}: text of {} bytes", where,
               size);
    DM_REQUIRE(DM_H5(H5Tequal(type, string_type(size)), where, "compare its type") > 0, ExitCode::bad_data,
               "{}: not ASCII text", where);
    std::string text(size, '\0');
    DM_H5(H5Aread(attribute, type, text.data()), where, "read it");
    text.resize(text.find_last_not_of('\0') + 1);
    return text;
  }

  static hsize_t attribute_count(hid_t object, const std::string& where) {
    H5O_info_t info;
    DM_H5(H5Oget_info2(object, &info, H5O_INFO_NUM_ATTRS), where, "describe it");
    DM_REQUIRE(info.num_attrs <= kMaxAttributes, ExitCode::bad_data, "{}: {} attributes", where,
               static_cast<uint64_t>(info.num_attrs));
    return info.num_attrs;
  }

  /// `prefix` is "/" or "/group/".
  void read_links(hid_t group, const std::string& prefix) {
    H5G_info_t info;
    DM_H5(H5Gget_info(group, &info), path_, "describe a group");
    DM_REQUIRE(info.nlinks <= kMaxObjects, ExitCode::bad_data, "{}: {} objects in {}", path_,
               static_cast<uint64_t>(info.nlinks), prefix);
    DM_REQUIRE(info.mounted == 0, ExitCode::bad_data, "{}: a file is mounted at {}", path_, prefix);
    for (hsize_t i = 0; i < info.nlinks; ++i) {
      char name[kMaxNameBytes + 1] = {};
      const ssize_t length = DM_H5(
          H5Lget_name_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT),
          path_, "list a group in the order of creation");
      const std::string object_path = prefix + name;
      const std::string where = path_ + ": " + object_path;
      DM_REQUIRE(
          length > 0 && length <= static_cast<ssize_t>(kMaxNameBytes) && std::strchr(name, '/') == nullptr,
          ExitCode::bad_data, "{}: no legal name", where);
      H5L_info_t link;
      DM_H5(H5Lget_info(group, name, &link, H5P_DEFAULT), where, "describe the link");
      DM_REQUIRE(link.type == H5L_TYPE_HARD, ExitCode::bad_data,
                 "{}: a soft or external link; only hard links are read", where);
      const H5Id object(DM_H5(H5Oopen(group, name, H5P_DEFAULT), where, "open it"), H5Oclose);
      DM_REQUIRE(attribute_count(object, where) == 0, ExitCode::bad_data,
                 "{}: has attributes, which this version does not know", where);
      const H5I_type_t kind = H5Iget_type(object);
      if (kind == H5I_GROUP && prefix == "/") {
        read_links(object, object_path + "/");
      } else {
        DM_REQUIRE(kind == H5I_DATASET, ExitCode::bad_data,
                   "{}: neither a dataset nor a group at the first level", where);
        read_dataset(object, object_path, where);
      }
    }
  }

  void read_dataset(hid_t id, const std::string& object_path, const std::string& where) {
    const H5Id list(DM_H5(H5Dget_create_plist(id), where, "read its creation list"), H5Pclose);
    DM_REQUIRE(H5Pget_layout(list) == H5D_CONTIGUOUS, ExitCode::bad_data,
               "{}: chunked, compact or virtual; only contiguous datasets are read", where);
    DM_REQUIRE(H5Pget_external_count(list) == 0, ExitCode::bad_data, "{}: its bytes are in another file",
               where);
    DM_REQUIRE(H5Pget_nfilters(list) == 0, ExitCode::bad_data, "{}: has filters", where);
    H5D_fill_time_t fill = H5D_FILL_TIME_ERROR;
    DM_REQUIRE(H5Pget_fill_time(list, &fill) >= 0 && fill == H5D_FILL_TIME_NEVER, ExitCode::bad_data,
               "{}: has a fill value", where);

    H5Dataset dataset;
    dataset.path = object_path;
    dataset.dtype = read_type(id, where);
    dataset.shape = read_shape(id, where);
    const haddr_t offset = H5Dget_offset(id);
    dataset.offset_bytes = offset == HADDR_UNDEF ? -1 : static_cast<int64_t>(offset);
    const int64_t stored = static_cast<int64_t>(H5Dget_storage_size(id));
    DM_REQUIRE(stored == dataset.size_bytes() && (dataset.offset_bytes < 0) == (stored == 0),
               ExitCode::bad_data, "{}: {} bytes are stored of the {} that its extent needs", where, stored,
               dataset.size_bytes());
    DM_REQUIRE(
        stored == 0 || (dataset.offset_bytes > 0 && stored <= layout_.file_size_bytes - dataset.offset_bytes),
        ExitCode::bad_data, "{}: its {} bytes at {} reach past the end of the file ({} bytes)", where, stored,
        dataset.offset_bytes, layout_.file_size_bytes);
    layout_.datasets.push_back(std::move(dataset));
    DM_REQUIRE(layout_.datasets.size() <= kMaxObjects, ExitCode::bad_data, "{}: too many datasets", path_);
  }

  static DType read_type(hid_t id, const std::string& where) {
    const H5Id type(DM_H5(H5Dget_type(id), where, "read its type"), H5Tclose);
    for (const DType dtype : kDTypes)
      if (DM_H5(H5Tequal(type, h5_type(dtype)), where, "compare its type")) return dtype;
    DM_FAIL(ExitCode::bad_data, "{}: its element type is none that this program writes", where);
  }

  static std::vector<int64_t> read_shape(hid_t id, const std::string& where) {
    const H5Id space(DM_H5(H5Dget_space(id), where, "read its dataspace"), H5Sclose);
    const H5S_class_t kind = H5Sget_simple_extent_type(space);
    DM_REQUIRE(kind == H5S_SCALAR || kind == H5S_SIMPLE, ExitCode::bad_data, "{}: has no extent", where);
    const int rank = DM_H5(H5Sget_simple_extent_ndims(space), where, "read its rank");
    DM_REQUIRE(rank <= kMaxRank, ExitCode::bad_data, "{}: {} dimensions", where, rank);
    hsize_t dims[kMaxRank] = {}, limits[kMaxRank] = {};
    DM_H5(H5Sget_simple_extent_dims(space, dims, limits), where, "read its extent");
    int64_t bytes = 8;  // bounds the count for every element type, so that size_bytes() cannot overflow
    for (int i = 0; i < rank; ++i) {
      DM_REQUIRE(limits[i] == dims[i], ExitCode::bad_data, "{}: extensible", where);
      const bool fits =
          dims[i] <= INT64_MAX &&
          !__builtin_mul_overflow(bytes, std::max<int64_t>(1, static_cast<int64_t>(dims[i])), &bytes);
      DM_REQUIRE(fits, ExitCode::bad_data, "{}: its extent does not fit 64 bits", where);
    }
    return {dims, dims + rank};
  }

  /// No two payloads share a byte, so no dataset has a second link either.
  void check_storage() const {
    std::vector<const H5Dataset*> stored;
    for (const H5Dataset& dataset : layout_.datasets)
      if (dataset.offset_bytes >= 0) stored.push_back(&dataset);
    std::sort(stored.begin(), stored.end(),
              [](auto* a, auto* b) { return a->offset_bytes < b->offset_bytes; });
    for (size_t i = 1; i < stored.size(); ++i)
      DM_REQUIRE(stored[i - 1]->offset_bytes + stored[i - 1]->size_bytes() <= stored[i]->offset_bytes,
                 ExitCode::bad_data, "{}: {} and {} overlap in the file", path_, stored[i - 1]->path,
                 stored[i]->path);
  }

  const std::string& path_;
  H5Layout layout_;
};

}  // namespace

int64_t H5Dataset::count() const {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

int64_t H5Dataset::size_bytes() const { return count() * dm::size_bytes(dtype); }

namespace {

/// libhdf5 never writes to the disk itself: a write that fails there is hidden by it until the process ends,
/// and then it crashes. It fills this file in memory (sparse: payloads are holes), from which the metadata is
/// copied. The caller unlinks it as soon as libhdf5, which wants a path, has opened it.
File memory_file() {
  std::string failed;
  for (const std::string directory : {"/dev/shm", "/tmp"}) {
    std::string path = directory + "/diffmamba-h5-XXXXXX";
    const int fd = mkostemp(path.data(), O_CLOEXEC);
    if (fd < 0) {
      failed = path;
      continue;
    }
    File file = File::open(path, O_RDWR);
    ::close(fd);
    return file;
  }
  throw_errno(errno, "create a file in memory", failed, __FILE__, __LINE__);
}

void copy_metadata(const File& from, File& to, const H5Layout& layout) {
  DM_SYS(ftruncate(to.fd(), layout.file_size_bytes), "extend", to.path());
  std::vector<char> buffer(64 << 10);
  for (auto [at, end] : metadata_ranges(layout))
    while (at < end) {
      const auto piece =
          static_cast<size_t>(std::min<int64_t>(end - at, static_cast<int64_t>(buffer.size())));
      from.read_at(buffer.data(), piece, at);
      to.write_at(buffer.data(), piece, at);
      at += static_cast<int64_t>(piece);
    }
}

/// A limit on file sizes holds in memory too, where libhdf5 would run into it.
void require_allowed_size(const std::string& path, const std::vector<H5Dataset>& datasets) {
  rlimit limit{};
  DM_SYS(getrlimit(RLIMIT_FSIZE, &limit), "read a limit", path);
  rlim_t payload = 0;
  for (const H5Dataset& dataset : datasets) payload += static_cast<rlim_t>(dataset.size_bytes());
  if (limit.rlim_cur != RLIM_INFINITY && payload >= limit.rlim_cur)
    throw_errno(EFBIG, "create", path, __FILE__, __LINE__);
}

}  // namespace

H5Layout create_h5(const std::string& path, std::vector<H5Dataset> datasets, const H5Attributes& attributes) {
  DM_CHECK(attributes.size() <= kMaxAttributes, "{}: {} attributes are too many", path, attributes.size());
  File file_on_disk = File::open(path, O_WRONLY | O_CREAT | O_EXCL);
  require_allowed_size(path, datasets);
  const File memory = memory_file();
  const H5Lock lock;
  const H5Id access = h5_file_access();
  // Small payloads get places of their own as well, instead of a shared block that ends in unused bytes.
  // Elements of up to 8 bytes lie on their own size; where the metadata is small, as in a token shard, the
  // first payload lies on a page.
  DM_H5(H5Pset_small_data_block_size(access, 0), path, "set the block size of small data");
  DM_H5(H5Pset_alignment(access, 1, 8), path, "set the alignment");
  DM_H5(H5Pset_meta_block_size(access, 4096), path, "set the block size of metadata");
  const H5Id root_creation = group_creation(H5P_FILE_CREATE), creation = group_creation(H5P_GROUP_CREATE);
  H5Id file(H5Fcreate(memory.path().c_str(), H5F_ACC_TRUNC, root_creation, access), H5Fclose);
  ::unlink(memory.path().c_str());
  DM_REQUIRE(file >= 0, ExitCode::io, "{}: libhdf5 cannot create it in memory: {}", path,
             detail::h5_message());
  {
    const H5Id root(DM_H5(H5Gopen2(file, "/", H5P_DEFAULT), path, "open the root group"), H5Gclose);
    for (const auto& [name, value] : attributes) write_attribute(root, path, name, value);
  }
  std::set<std::string> groups;
  for (H5Dataset& dataset : datasets) {
    const std::string group = group_of(dataset.path);
    if (!group.empty() && groups.insert(group).second) {
      const H5Id made(
          DM_H5(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), path, "create a group"),
          H5Gclose);
    }
    create_dataset(file, path, dataset);
  }
  DM_REQUIRE(file.close() >= 0, ExitCode::io, "{}: libhdf5 cannot write its metadata to memory: {}", path,
             detail::h5_message());

  H5Layout layout{std::move(datasets), attributes, memory.size_bytes()};
  for (const H5Dataset& dataset : layout.datasets)
    DM_CHECK(dataset.offset_bytes + dataset.size_bytes() <= layout.file_size_bytes,
             "{}: {} ends after the file", path, dataset.path);
  copy_metadata(memory, file_on_disk, layout);
  file_on_disk.close();
  return layout;
}

H5Layout read_h5_layout(const std::string& path) { return LayoutReader(path).read(); }

std::vector<std::pair<int64_t, int64_t>> metadata_ranges(const H5Layout& layout) {
  std::vector<std::pair<int64_t, int64_t>> payloads;
  for (const H5Dataset& dataset : layout.datasets)
    if (dataset.offset_bytes >= 0)
      payloads.emplace_back(dataset.offset_bytes, dataset.offset_bytes + dataset.size_bytes());
  payloads.emplace_back(layout.file_size_bytes, layout.file_size_bytes);
  std::sort(payloads.begin(), payloads.end());

  std::vector<std::pair<int64_t, int64_t>> ranges;
  int64_t at = 0;
  for (const auto& [begin, end] : payloads) {
    if (at < begin) ranges.emplace_back(at, begin);
    at = std::max(at, end);
  }
  return ranges;
}

Hash128 metadata_digest(const std::string& path, const H5Layout& layout) {
  const File file = File::open(path, O_RDONLY | O_NOFOLLOW);
  std::vector<char> buffer(64 << 10);
  Hasher hasher;
  for (auto [at, end] : metadata_ranges(layout))
    while (at < end) {
      const size_t piece =
          static_cast<size_t>(std::min<int64_t>(end - at, static_cast<int64_t>(buffer.size())));
      file.read_at(buffer.data(), piece, at);
      hasher.update(buffer.data(), piece);
      at += static_cast<int64_t>(piece);
    }
  return hasher.digest_128();
}

}  // namespace dm
