#include "tests/golden/golden_file.h"

#include "core/h5.h"

namespace dm::golden {
namespace {

Attribute read_attribute(hid_t object, const std::string& name, const std::string& where) {
  const H5Id id(DM_H5(H5Aopen(object, name.c_str(), H5P_DEFAULT), where, "open"), H5Aclose);
  const H5Id type(DM_H5(H5Aget_type(id), where, "read the type of"), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_INTEGER) {
    int64_t value = 0;
    DM_H5(H5Aread(id, H5T_NATIVE_INT64, &value), where, "read");
    return value;
  }
  if (kind == H5T_ENUM) {  // h5py's bool: FALSE = 0, TRUE = 1 over one byte
    int8_t value = 0;
    DM_REQUIRE(H5Tget_size(type) == 1, ExitCode::bad_data, "{}: an enumeration that is no flag", where);
    DM_H5(H5Aread(id, type, &value), where, "read");
    return value != 0;
  }
  DM_REQUIRE(kind == H5T_STRING && H5Tis_variable_str(type) > 0, ExitCode::bad_data,
             "{}: neither an integer, a flag nor a text of variable length", where);
  char* text = nullptr;
  DM_H5(H5Aread(id, type, &text), where, "read");
  std::string value(text);
  H5free_memory(text);
  return value;
}

at::Tensor read_dataset(hid_t file, const std::string& name, const std::string& where) {
  const H5Id id(DM_H5(H5Dopen2(file, name.c_str(), H5P_DEFAULT), where, "open"), H5Dclose);
  const H5Id type(DM_H5(H5Dget_type(id), where, "read the type of"), H5Tclose);
  const H5Id space(DM_H5(H5Dget_space(id), where, "read the extent of"), H5Sclose);
  std::vector<hsize_t> dims(
      static_cast<size_t>(DM_H5(H5Sget_simple_extent_ndims(space), where, "read the rank of")));
  DM_H5(H5Sget_simple_extent_dims(space, dims.data(), nullptr), where, "read the extent of");
  const bool integer = H5Tget_class(type) == H5T_INTEGER;
  DM_REQUIRE(integer || H5Tget_class(type) == H5T_FLOAT, ExitCode::bad_data,
             "{}: neither integers nor numbers", where);
  const at::Tensor values =
      at::empty(std::vector<int64_t>(dims.begin(), dims.end()), integer ? at::kLong : at::kDouble);
  DM_H5(H5Dread(id, integer ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                values.data_ptr()),
        where, "read");
  return values;
}

std::vector<std::string> link_names(hid_t group, const std::string& where) {
  H5G_info_t info;
  DM_H5(H5Gget_info(group, &info), where, "list");
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const auto name = [&](char* text, size_t size) {
      return DM_H5(H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, text, size, H5P_DEFAULT),
                   where, "list");
    };
    std::string text(static_cast<size_t>(name(nullptr, 0)), '\0');
    name(text.data(), text.size() + 1);
    names.push_back(std::move(text));
  }
  return names;
}

}  // namespace

GoldenFile::GoldenFile(const std::string& path) : path_(path) {
  const H5Lock lock;
  const H5Id access = h5_file_access();
  const H5Id file(DM_H5(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), path, "open"), H5Fclose);
  const H5Id root(DM_H5(H5Gopen2(file, "/", H5P_DEFAULT), path, "open the root of"), H5Gclose);
  for (int64_t i = 0, count = DM_H5(H5Aget_num_attrs(root), path, "count the attributes of"); i < count;
       ++i) {
    const auto name = [&](char* text, size_t size) {
      return DM_H5(H5Aget_name_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, static_cast<hsize_t>(i), text,
                                      size, H5P_DEFAULT),
                   path, "list the attributes of");
    };
    std::string text(static_cast<size_t>(name(nullptr, 0)), '\0');
    name(text.data(), text.size() + 1);
    attributes_.emplace(text, read_attribute(root, text, path + ": attribute " + text));
  }
  for (const std::string& group_name : link_names(root, path)) {
    const H5Id group(DM_H5(H5Gopen2(file, group_name.c_str(), H5P_DEFAULT), path + ": " + group_name, "open"),
                     H5Gclose);
    for (const std::string& name : link_names(group, path + ": " + group_name)) {
      const std::string full = group_name + "/" + name;
      tensors_.emplace(full, read_dataset(file, full, path + ": " + full));
    }
  }
}

const Attribute& GoldenFile::attribute(const std::string& name) {
  const auto found = attributes_.find(name);
  DM_REQUIRE(found != attributes_.end(), ExitCode::bad_data, "{}: no attribute '{}'", path_, name);
  used_.insert("@" + name);
  return found->second;
}

namespace {
template <class T>
const T& as(const Attribute& attribute, const std::string& path, const std::string& name, const char* type) {
  const T* value = std::get_if<T>(&attribute);
  DM_REQUIRE(value, ExitCode::bad_data, "{}: attribute '{}' is no {}", path, name, type);
  return *value;
}
}  // namespace

int64_t GoldenFile::integer(const std::string& name) {
  return as<int64_t>(attribute(name), path_, name, "integer");
}
bool GoldenFile::flag(const std::string& name) { return as<bool>(attribute(name), path_, name, "flag"); }
std::string GoldenFile::text(const std::string& name) {
  return as<std::string>(attribute(name), path_, name, "text");
}

at::Tensor GoldenFile::tensor(const std::string& name) {
  const auto found = tensors_.find(name);
  DM_REQUIRE(found != tensors_.end(), ExitCode::bad_data, "{}: no tensor '{}'", path_, name);
  used_.insert(name);
  return found->second;
}

std::map<std::string, at::Tensor> GoldenFile::group(const std::string& name) {
  std::map<std::string, at::Tensor> tensors;
  const std::string prefix = name + "/";
  for (const auto& [full, values] : tensors_) {
    if (!full.starts_with(prefix)) continue;
    used_.insert(full);
    tensors.emplace(full.substr(prefix.size()), values);
  }
  DM_REQUIRE(!tensors.empty(), ExitCode::bad_data, "{}: the group '{}' is missing or empty", path_, name);
  return tensors;
}

void GoldenFile::require_all_used() const {
  for (const auto& [name, value] : attributes_)
    DM_REQUIRE(used_.contains("@" + name), ExitCode::bad_data, "{}: unknown attribute '{}'", path_, name);
  for (const auto& [name, values] : tensors_)
    DM_REQUIRE(used_.contains(name), ExitCode::bad_data, "{}: unknown tensor '{}'", path_, name);
}

}  // namespace dm::golden
