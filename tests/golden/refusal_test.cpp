// The golden program is only worth what it refuses: files altered in one place each.

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "core/h5.h"
#include "tests/golden/cases.h"

namespace dm::golden {
namespace {

using testing::HasSubstr;

/// A copy of a golden file with one change made to it.
class Altered {
 public:
  Altered(const std::string& name, const std::function<void(hid_t)>& change)
      : path_(testing::TempDir() + "golden_refusal_" + name + ".h5") {
    std::filesystem::copy_file(std::string(DM_GOLDEN_FILES) + "/" + name + ".h5", path_,
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::permissions(path_, std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    const H5Lock lock;
    const H5Id access = h5_file_access();
    const H5Id file(DM_H5(H5Fopen(path_.c_str(), H5F_ACC_RDWR, access), path_, "open"), H5Fclose);
    change(file);
  }
  ~Altered() { std::filesystem::remove(path_); }

  std::string refusal() const {
    try {
      run_case(path_, at::kDouble);
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ExitCode::bad_data));
      return error.what();
    }
    return "";
  }

  /// The quantities that are not accepted.
  std::vector<std::string> rejected(at::ScalarType dtype) const {
    std::vector<std::string> names;
    for (const Comparison& c : run_case(path_, dtype))
      if (!c.accepted()) names.push_back(c.quantity);
    return names;
  }

 private:
  std::string path_;
};

/// Replaces the first number of a dataset by what `change` makes of it.
std::function<void(hid_t)> first_number(const std::string& name,
                                        const std::function<double(double)>& change) {
  return [=](hid_t file) {
    const H5Id dataset(DM_H5(H5Dopen2(file, name.c_str(), H5P_DEFAULT), name, "open"), H5Dclose);
    const H5Id space(DM_H5(H5Dget_space(dataset), name, "read the extent of"), H5Sclose);
    std::vector<double> values(
        static_cast<size_t>(DM_H5(H5Sget_simple_extent_npoints(space), name, "read the extent of")));
    DM_H5(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), name, "read");
    values[0] = change(values[0]);
    DM_H5(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), name, "write");
  };
}

std::function<void(hid_t)> integer_attribute(const std::string& name, int64_t value) {
  return [=](hid_t file) {
    const H5Id space(DM_H5(H5Screate(H5S_SCALAR), name, "make"), H5Sclose);
    const H5Id root(DM_H5(H5Gopen2(file, "/", H5P_DEFAULT), name, "open"), H5Gclose);
    if (H5Aexists(root, name.c_str()) > 0) DM_H5(H5Adelete(root, name.c_str()), name, "delete");
    const H5Id id(
        DM_H5(H5Acreate2(root, name.c_str(), H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), name, "make"),
        H5Aclose);
    DM_H5(H5Awrite(id, H5T_NATIVE_INT64, &value), name, "write");
  };
}

std::function<void(hid_t)> without(const std::string& name) {
  return [=](hid_t file) { DM_H5(H5Ldelete(file, name.c_str(), H5P_DEFAULT), name, "delete"); };
}

std::function<void(hid_t)> with_copy(const std::string& from, const std::string& to) {
  return [=](hid_t file) {
    DM_H5(H5Ocopy(file, from.c_str(), file, to.c_str(), H5P_DEFAULT, H5P_DEFAULT), to, "copy");
  };
}

const std::string kLayer = "diffmamba2_packed";

TEST(Golden, AnUntouchedCopyIsAccepted) {
  const Altered file(kLayer, [](hid_t) {});
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat})
    EXPECT_THAT(file.rejected(dtype), testing::IsEmpty());
}

TEST(Golden, NotANumberIsRejected) {
  for (const std::string& name : {std::string("output/y"), std::string("grad/mixer_1.A_log")}) {
    const Altered file(kLayer, first_number(name, [](double) { return std::nan(""); }));
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat})
      EXPECT_THAT(file.rejected(dtype), testing::Contains(name == "output/y" ? "y" : name));
  }
}

TEST(Golden, ValuesBeyondTheirBoundAreRejected) {
  const std::string name = "grad/mixer_1.A_log";
  {  // a thousandth of a per cent is beyond float64's bound and within float32's
    const Altered file(kLayer, first_number(name, [](double value) { return value * (1 + 1e-5); }));
    EXPECT_THAT(file.rejected(at::kDouble), testing::ElementsAre(name));
    EXPECT_THAT(file.rejected(at::kFloat), testing::IsEmpty());
  }
  {  // a per cent is beyond both
    const Altered file(kLayer, first_number(name, [](double value) { return value * (1 + 1e-2); }));
    EXPECT_THAT(file.rejected(at::kDouble), testing::ElementsAre(name));
    EXPECT_THAT(file.rejected(at::kFloat), testing::ElementsAre(name));
  }
  const Altered loss("lm_untied",
                     first_number("output/loss", [](double value) { return value * (1 + 1e-10); }));
  EXPECT_THAT(loss.rejected(at::kDouble), testing::ElementsAre("loss[0]"));
}

TEST(Golden, AnotherLayerIndexIsAnotherFunction) {
  const Altered file(kLayer, integer_attribute("layer", 4));
  EXPECT_THAT(file.rejected(at::kFloat), testing::Contains("y"));
}

TEST(Golden, NothingIsLeftUnread) {
  EXPECT_THAT(Altered(kLayer, integer_attribute("rotary", 1)).refusal(),
              HasSubstr("unknown attribute 'rotary'"));
  EXPECT_THAT(Altered(kLayer, with_copy("param/mixer_1.D", "param/mixer_3.D")).refusal(),
              HasSubstr("parameter 'mixer_3.D' is not used"));
  EXPECT_THAT(Altered(kLayer, with_copy("output/y", "output/z")).refusal(),
              HasSubstr("unknown tensor 'output/z'"));
  EXPECT_THAT(Altered("lm_untied", with_copy("trained/lm_head.weight", "trained/lm_head.bias")).refusal(),
              HasSubstr("trained weights"));
}

TEST(Golden, NothingMayBeMissing) {
  EXPECT_THAT(Altered(kLayer, without("param/subln.weight")).refusal(),
              HasSubstr("no parameter 'subln.weight'"));
  EXPECT_THAT(Altered(kLayer, without("grad/subln.weight")).refusal(), HasSubstr("gradients for"));
  EXPECT_THAT(Altered(kLayer, without("output/y")).refusal(), HasSubstr("no tensor 'output/y'"));
  EXPECT_THAT(Altered("lm_untied", without("trained/lm_head.weight")).refusal(),
              HasSubstr("trained weights"));
  EXPECT_THAT(Altered(kLayer, integer_attribute("inner", 96)).refusal(),
              HasSubstr("inner is 96, the layer's is 48"));
}

}  // namespace
}  // namespace dm::golden
