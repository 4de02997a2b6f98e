#include "data/hdf5_dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/h5.h"
#include "core/log.h"
#include "core/signals.h"
#include "data/shard_format.h"

namespace dm::data {
namespace {

constexpr hsize_t kMaxChunkBytes = 256 << 20;  // what one read may unpack
constexpr size_t kChunkCacheBytes = 64 << 20;
constexpr int64_t kScanTokens = 1 << 20;
constexpr size_t kMaxListed = 1000;

struct OpenFile {
  H5Id file, dataset;
  int64_t count = 0;
};

H5Id read_access(const std::string& path) {
  H5Id access(DM_H5(H5Pcreate(H5P_FILE_ACCESS), path, "make a file access list"), H5Pclose);
  DM_H5(H5Pset_file_locking(access, false, true), path, "turn file locking off");
  DM_H5(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), path, "choose how files close");
  return access;
}

void require_regular(const std::string& path) {
  struct stat info {};
  DM_SYS(lstat(path.c_str(), &info), "open", path);
  DM_REQUIRE(S_ISREG(info.st_mode), ExitCode::bad_data,
             "{}: a symbolic link or no regular file; name the file itself", path);
}

/// Hard links only, all the way down: a soft or external link could lead anywhere.
void check_links(hid_t file, const std::string& name, const std::string& where) {
  for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    const std::string part = name.substr(0, slash);
    DM_REQUIRE(H5Lexists(file, part.c_str(), H5P_DEFAULT) > 0, ExitCode::bad_data,
               "{}: there is no '{}' in the file; list what there is with h5ls -r", where, part);
    H5L_info_t link;
    DM_H5(H5Lget_info(file, part.c_str(), &link, H5P_DEFAULT), where, "describe the link");
    DM_REQUIRE(link.type == H5L_TYPE_HARD, ExitCode::bad_data,
               "{}: '{}' is a soft or external link; only hard links are followed", where, part);
    if (slash == std::string::npos) return;
  }
}

void check_filters(hid_t list, const std::string& where) {
  const int filters = DM_H5(H5Pget_nfilters(list), where, "count its filters");
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    size_t elements = 0;
    char name[64] = {};
    const auto filter = DM_H5(H5Pget_filter2(list, static_cast<unsigned>(i), &flags, &elements, nullptr,
                                             sizeof name, name, &config),
                              where, "read a filter");
    DM_REQUIRE(H5Zfilter_avail(static_cast<H5Z_filter_t>(filter)) > 0, ExitCode::bad_data,
               "{}: packed with filter {} ('{}'), which this libhdf5 lacks (plugins are not loaded); "
               "repack it: h5repack -f GZIP=6",
               where, static_cast<int>(filter), name);
  }
}

/// What is not stored reads back as zeros without an error, so every byte of the extent must be.
void check_storage(hid_t dataset, hid_t list, int64_t count, size_t element_bytes, hid_t space,
                   const std::string& where) {
  DM_REQUIRE(H5Pget_external_count(list) == 0, ExitCode::bad_data, "{}: its bytes are in another file",
             where);
  const H5D_layout_t layout = H5Pget_layout(list);
  if (layout == H5D_CHUNKED) {
    hsize_t chunk = 0, stored = 0;
    DM_H5(H5Pget_chunk(list, 1, &chunk), where, "read its chunk size");
    DM_REQUIRE(chunk > 0 && chunk <= kMaxChunkBytes / element_bytes, ExitCode::bad_data,
               "{}: chunks of {} elements are too large; repack it", where, static_cast<uint64_t>(chunk));
    DM_H5(H5Dget_num_chunks(dataset, space, &stored), where, "count its chunks");
    const hsize_t needed = (static_cast<hsize_t>(count) + chunk - 1) / chunk;
    DM_REQUIRE(stored == needed, ExitCode::bad_data,
               "{}: {} of its {} chunks are stored; the rest was never written", where,
               static_cast<uint64_t>(stored), static_cast<uint64_t>(needed));
    return;
  }
  DM_REQUIRE(layout == H5D_CONTIGUOUS || layout == H5D_COMPACT, ExitCode::bad_data,
             "{}: a virtual dataset; copy it into a plain one (h5repack)", where);
  const auto stored = static_cast<int64_t>(H5Dget_storage_size(dataset)),
             needed = count * static_cast<int64_t>(element_bytes);
  DM_REQUIRE(stored == needed, ExitCode::bad_data,
             "{}: {} of its {} bytes are stored; the rest was never written", where, stored, needed);
}

/// Opens and checks the metadata. The caller holds the lock.
OpenFile open_checked(const std::string& path, const std::string& name) {
  const std::string where = path + ": " + name;
  OpenFile open;
  const H5Id access = read_access(path);
  open.file = H5Id(DM_H5(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), path, "open it"), H5Fclose);
  check_links(open.file, name, where);

  const H5Id dataset_access(DM_H5(H5Pcreate(H5P_DATASET_ACCESS), where, "make a list"), H5Pclose);
  DM_H5(H5Pset_chunk_cache(dataset_access, 12421, kChunkCacheBytes, 1.0), where, "size its chunk cache");
  open.dataset =
      H5Id(DM_H5(H5Dopen2(open.file, name.c_str(), dataset_access), where, "open it as a dataset"), H5Dclose);

  const H5Id type(DM_H5(H5Dget_type(open.dataset), where, "read its type"), H5Tclose);
  const size_t element_bytes = H5Tget_size(type);
  DM_REQUIRE(H5Tget_class(type) == H5T_INTEGER && element_bytes <= 8, ExitCode::bad_data,
             "{}: its elements are no integers", where);
  const H5Id space(DM_H5(H5Dget_space(open.dataset), where, "read its dataspace"), H5Sclose);
  DM_REQUIRE(H5Sget_simple_extent_type(space) == H5S_SIMPLE && H5Sget_simple_extent_ndims(space) == 1,
             ExitCode::bad_data, "{}: not one-dimensional; store the tokens as one array", where);
  hsize_t count = 0;
  DM_H5(H5Sget_simple_extent_dims(space, &count, nullptr), where, "read its extent");
  DM_REQUIRE(count > 0, ExitCode::bad_data, "{}: holds no tokens", where);
  DM_REQUIRE(count <= hsize_t{1} << 56, ExitCode::bad_data, "{}: an extent of {} elements", where,
             static_cast<uint64_t>(count));
  open.count = static_cast<int64_t>(count);
  const H5Id list(DM_H5(H5Dget_create_plist(open.dataset), where, "read its creation list"), H5Pclose);
  check_filters(list, where);
  check_storage(open.dataset, list, open.count, element_bytes, space, where);
  return open;
}

/// All datasets below a group. Groups are told by their place in the file, so that a loop of hard links is
/// gone through once.
void find_datasets(hid_t group, const std::string& prefix, std::set<haddr_t>& seen,
                   std::vector<std::string>& names) {
  H5G_info_t info;
  DM_H5(H5Gget_info(group, &info), prefix, "describe a group");
  for (hsize_t i = 0; i < info.nlinks && names.size() < kMaxListed; ++i) {
    char name[1024] = {};
    DM_H5(H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT),
          prefix, "list a group");
    H5L_info_t link;
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) continue;
    const H5Id object(DM_H5(H5Oopen(group, name, H5P_DEFAULT), prefix + name, "open it"), H5Oclose);
    H5O_info_t about;
    DM_H5(H5Oget_info2(object, &about, H5O_INFO_BASIC), prefix + name, "describe it");
    if (!seen.insert(about.addr).second || seen.size() > kMaxListed) continue;
    if (about.type == H5O_TYPE_DATASET) names.push_back(prefix + name);
    if (about.type == H5O_TYPE_GROUP) find_datasets(object, prefix + name + "/", seen, names);
  }
}

Json describe_datasets(const std::string& path) {
  const H5Lock lock;
  std::vector<std::string> names;
  {
    const H5Id file(DM_H5(H5Fopen(path.c_str(), H5F_ACC_RDONLY, read_access(path)), path, "open it"),
                    H5Fclose);
    const H5Id root(DM_H5(H5Gopen2(file, "/", H5P_DEFAULT), path, "open the root group"), H5Gclose);
    H5O_info_t about;
    DM_H5(H5Oget_info2(root, &about, H5O_INFO_BASIC), path, "describe the root group");
    std::set<haddr_t> seen = {about.addr};
    find_datasets(root, "/", seen, names);
  }
  Json datasets = Json::array();
  for (const std::string& name : names) try {
      datasets.push_back({{"name", name}, {"tokens", open_checked(path, name).count}});
    } catch (const Error& error) {
      datasets.push_back({{"name", name}, {"problem", error.what()}});
    }
  return {{"path", path}, {"kind", "HDF5 file"}, {"datasets", datasets}};
}

class Hdf5Dataset final : public Dataset {
 public:
  Hdf5Dataset(const std::string& path, const OpenOptions& options)
      : path_(path), name_(absolute(options.hdf5_name)), eos_(options.eos_id) {
    require_regular(path);
    check_in_child({path}, [&](size_t) {
      const H5Lock lock;
      open_checked(path_, name_);
    });
    const H5Lock lock;
    open_ = open_checked(path_, name_);
  }
  ~Hdf5Dataset() override {
    const H5Lock lock;
    open_ = {};
  }

  /// Once, before anything else is asked.
  void scan() {
    read_all();
    log_info(
        "{}: your own HDF5 file: {} tokens, {} documents, ids up to {}; read through libhdf5 one thread at a "
        "time and without "
        "checksums (`diffmamba prepare` makes the fast, checked kind)",
        where(), token_count(), documents_, vocab_size_ - 1);
  }

  const std::string& path() const override { return path_; }
  int64_t token_count() const override { return open_.count; }
  int64_t doc_count() const override { return documents_; }
  int64_t vocab_size() const override { return vocab_size_; }
  int64_t eos_id() const override { return eos_; }
  Hash128 fingerprint() const override { return fingerprint_; }
  const std::string& tokenizer() const override { return tokenizer_; }
  Hash128 tokenizer_hash() const override { return {}; }
  const std::vector<int32_t>& bytes_of_ids() const override { return no_bytes_; }
  bool has_loss_mask() const override { return false; }

  void read_tokens(int64_t begin, int64_t count, int32_t* tokens) const override {
    read(begin, count, tokens);
    for (int64_t i = 0; i < count; ++i)
      DM_REQUIRE(tokens[i] >= 0 && tokens[i] < vocab_size_, ExitCode::bad_data,
                 "{}: token {} has the id {}, which is not below {}: the file changed since it was opened",
                 where(), begin + i, tokens[i], vocab_size_);
  }

  void read_loss_mask(int64_t, int64_t count, uint8_t* mask) const override {
    std::fill_n(mask, count, uint8_t{1});
  }

  std::vector<int64_t> document_starts(int64_t begin, int64_t count) const override {
    if (eos_ < 0 || count < 2) return {};
    std::vector<int32_t> tokens(static_cast<size_t>(count - 1));
    read(begin, count - 1, tokens.data());
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < count - 1; ++i)
      if (tokens[static_cast<size_t>(i)] == eos_) starts.push_back(i + 1);
    return starts;
  }

 private:
  static std::string absolute(const std::string& name) { return name.starts_with('/') ? name : "/" + name; }
  std::string where() const { return path_ + ": " + name_; }

  void read(int64_t begin, int64_t count, int32_t* tokens) const {
    DM_CHECK(begin >= 0 && count >= 0 && begin <= token_count() - count,
             "{}: tokens [{}, {} + {}) are outside 0 .. {}", where(), begin, begin, count, token_count());
    if (count == 0) return;
    const auto start = static_cast<hsize_t>(begin), length = static_cast<hsize_t>(count);
    const H5Lock lock;
    const H5Id from(DM_H5(H5Dget_space(open_.dataset), where(), "read its dataspace"), H5Sclose);
    const H5Id to(DM_H5(H5Screate_simple(1, &length, nullptr), where(), "make a dataspace"), H5Sclose);
    DM_H5(H5Sselect_hyperslab(from, H5S_SELECT_SET, &start, nullptr, &length, nullptr), where(),
          "select tokens");
    // Ids beyond int32 are clamped to its ends by libhdf5's conversion; the scan has refused them by then.
    DM_H5(H5Dread(open_.dataset, H5T_NATIVE_INT32, to, from, H5P_DEFAULT, tokens), where(), "read tokens");
  }

  void read_all() {
    std::vector<int32_t> tokens(static_cast<size_t>(std::min(kScanTokens, token_count())));
    Hasher hasher;
    int32_t largest = 0;
    for (int64_t begin = 0; begin < token_count(); begin += kScanTokens) {
      // A request to save and stop is the caller's to obey, once there is something to save: a job that is
      // signalled while it starts must end as one that is signalled later, to be run again.
      DM_REQUIRE(stop_requested() != StopRequest::interrupt, ExitCode::interrupted,
                 "{}: interrupted while it was read for the first time", where());
      const int64_t count = std::min(kScanTokens, token_count() - begin);
      read(begin, count, tokens.data());
      for (int64_t i = 0; i < count; ++i) {
        const int32_t id = tokens[static_cast<size_t>(i)];
        DM_REQUIRE(id >= 0 && id < INT32_MAX, ExitCode::bad_data,
                   "{}: token {} has an id below 0 or from 2^31 - 1 up", where(), begin + i);
        largest = std::max(largest, id);
        documents_ += id == eos_;
      }
      hasher.update(tokens.data(), static_cast<size_t>(count) * sizeof(int32_t));
      if (begin + count == token_count() && tokens[static_cast<size_t>(count - 1)] != eos_)
        ++documents_;  // the last lacks its end
    }
    vocab_size_ = int64_t{largest} + 1;
    const Hash128 content = hasher.digest_128();
    const std::string text =
        fmt::format("diffmamba-own-hdf5 1\n{} {} {}\n", token_count(), eos_, hex(content));
    fingerprint_ = xxh3_128(text.data(), text.size());
  }

  std::string path_, name_, tokenizer_ = "unknown";
  std::vector<int32_t> no_bytes_;
  int64_t eos_;
  OpenFile open_;
  int64_t documents_ = 0;
  int64_t vocab_size_ = 0;
  Hash128 fingerprint_;
};

}  // namespace

std::shared_ptr<const Dataset> open_hdf5_dataset(const std::string& path, const OpenOptions& options) {
  auto dataset = std::make_shared<Hdf5Dataset>(path, options);
  dataset->scan();
  return dataset;
}

Json describe_hdf5(const std::string& path) {
  require_regular(path);
  check_in_child({path}, [&](size_t) { describe_datasets(path); });
  return describe_datasets(path);
}

}  // namespace dm::data
