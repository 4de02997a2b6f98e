#include "kernels/linear/gemm_cuda.h"

#include <ATen/ATen.h>
#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {
namespace {

void check(cublasStatus_t status, const char* what) {
  DM_REQUIRE(status == CUBLAS_STATUS_SUCCESS, ExitCode::lost, "cuBLASLt: {}: {}", what,
             cublasLtGetStatusString(status));
}

cudaDataType_t type_of(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

/// A matrix as cuBLASLt sees it: column-major, so that a row-major [r, c] is its [c, r]. One, or two at a
/// distance of so many elements.
struct Operand {
  cudaDataType_t type;
  int64_t rows, columns, stride;
  uint32_t alignment;  // bytes
  int32_t count = 1;
  int64_t distance = 0;
  auto key() const { return std::tie(type, rows, columns, stride, alignment, count, distance); }
  bool operator<(const Operand& other) const { return key() < other.key(); }
};
uint32_t alignment_of(const at::Tensor& t) {
  const auto address = reinterpret_cast<uintptr_t>(t.data_ptr());
  uint32_t alignment = 256;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}
Operand operand(const at::Tensor& t) {
  return {type_of(t), t.size(1), t.size(0), t.stride(0), alignment_of(t)};
}
Operand operand(const at::Tensor& t, const at::Tensor& second) {
  Operand pair = operand(t);
  pair.alignment = std::min(pair.alignment, alignment_of(second));
  pair.count = 2;
  pair.distance =
      (static_cast<const char*>(second.const_data_ptr()) - static_cast<const char*>(t.const_data_ptr())) /
      t.element_size();
  return pair;
}

class Layout {
 public:
  explicit Layout(const Operand& o) {
    check(cublasLtMatrixLayoutCreate(&layout_, o.type, static_cast<uint64_t>(o.rows),
                                     static_cast<uint64_t>(o.columns), o.stride),
          "layout");
    const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, auto value) {
      check(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof value), "layout");
    };
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, o.count);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, o.distance);
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

/// A product's shapes with the algorithm that was chosen for them: the first that the library proposes, which
/// depends on nothing but the shapes, the device and the library's version.
struct Plan {
  cublasLtMatmulDesc_t description = nullptr;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

class Gemm {
 public:
  Gemm() { check(cublasLtCreate(&handle_), "create"); }
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;
  ~Gemm() { cublasLtDestroy(handle_); }

  struct Matrix {
    const at::Tensor& first;
    Operand operand;
    Matrix(const at::Tensor& t) : first(t), operand(kernels::operand(t)) {}  // NOLINT: a tensor is a matrix
    Matrix(const at::Tensor& t, const at::Tensor& second) : first(t), operand(kernels::operand(t, second)) {}
  };

  /// c = op(a) op(b) + beta c, all as the library sees them.
  void run(const Matrix& a_matrix, bool transpose_a, const Matrix& b_matrix, bool transpose_b,
           const Matrix& c_matrix, float beta) {
    const at::Tensor &a = a_matrix.first, &b = b_matrix.first, &c = c_matrix.first;
    const Key key{a.get_device(), a_matrix.operand, transpose_a, b_matrix.operand,
                  transpose_b,    c_matrix.operand, beta != 0};
    const cudaStream_t stream = current_stream();
    const std::lock_guard lock(mutex_);
    const Plan& plan = this->plan(key);
    const float alpha = 1;
    const at::Tensor& workspace =
        workspaces_[{a.get_device(), stream}].defined()
            ? workspaces_[{a.get_device(), stream}]
            : (workspaces_[{a.get_device(), stream}] = device_bytes(kWorkspaceBytes, a));
    check(cublasLtMatmul(handle_, plan.description, &alpha, a.const_data_ptr(), plan.a.get(),
                         b.const_data_ptr(), plan.b.get(), &beta, c.data_ptr(), plan.c.get(), c.data_ptr(),
                         plan.c.get(), &plan.algorithm, workspace.data_ptr(), kWorkspaceBytes, stream),
          "product");
  }

 private:
  static constexpr size_t kWorkspaceBytes = 32 << 20;  // what the library's Hopper kernels ask for at most
  using Key = std::tuple<int64_t, Operand, bool, Operand, bool, Operand, bool>;

  const Plan& plan(const Key& key) {
    const auto found = plans_.find(key);
    if (found != plans_.end()) return *found->second;
    const auto& [device, a, transpose_a, b, transpose_b, c, accumulate] = key;
    auto plan = std::unique_ptr<Plan>(new Plan{.a = Layout(a), .b = Layout(b), .c = Layout(c)});
    check(cublasLtMatmulDescCreate(&plan->description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    const cublasOperation_t yes = CUBLAS_OP_T, no = CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSA,
                                         transpose_a ? &yes : &no, sizeof yes),
          "transpose");
    check(cublasLtMatmulDescSetAttribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSB,
                                         transpose_b ? &yes : &no, sizeof yes),
          "transpose");
    cublasLtMatmulPreference_t preference;
    check(cublasLtMatmulPreferenceCreate(&preference), "preference");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a.alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b.alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c.alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c.alignment);
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, plan->description, plan->a.get(), plan->b.get(),
                                       plan->c.get(), plan->c.get(), preference, 1, &result, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    check(status, "choice of an algorithm");
    DM_CHECK(count == 1, "cuBLASLt has no algorithm for a product of [{}, {}] and [{}, {}]", a.columns,
             a.rows, b.columns, b.rows);
    plan->algorithm = result.algo;
    return *plans_.emplace(key, std::move(plan)).first->second;
  }

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  std::map<std::pair<int64_t, cudaStream_t>, at::Tensor> workspaces_;
};

/// Never destroyed: at exit the driver may be gone before it.
Gemm& gemm() {
  static Gemm& instance = *new Gemm;
  return instance;
}

void check_matrix(const char* name, const at::Tensor& t, int64_t rows, int64_t columns) {
  DM_CHECK(t.dim() == 2 && t.size(0) == rows && t.size(1) == columns && t.stride(1) == 1,
           "product: {} is {} with strides {}, expected [{}, {}] with a contiguous last dim", name,
           describe(t), t.dim() == 2 ? t.stride(1) : 0, rows, columns);
}

void check_outer_product(const OuterProduct& p) {
  check_matrix("dy", p.dy, p.x.size(0), p.dw.size(0));
  check_matrix("x", p.x, p.dy.size(0), p.dw.size(1));
  check_matrix("dw", p.dw, p.dy.size(1), p.x.size(1));
  DM_CHECK(p.dw.scalar_type() == at::kFloat, "product: dw is {}, expected float32", describe(p.dw));
}

}  // namespace

// The library's matrices are column-major: its c [O, T] = w' x with w' the transpose of its w [I, O].
void multiply_transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  check_matrix("x", x, x.size(0), w.size(1));
  check_matrix("w", w, w.size(0), x.size(1));
  check_matrix("y", y, x.size(0), w.size(0));
  gemm().run(w, true, x, false, y, 0);
}

void multiply(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& dx, bool add) {
  check_matrix("dy", dy, dy.size(0), w.size(0));
  check_matrix("w", w, dy.size(1), w.size(1));
  check_matrix("dx", dx, dy.size(0), w.size(1));
  gemm().run(w, false, dy, false, dx, add ? 1 : 0);
}

void add_outer_product(const OuterProduct& p) {
  check_outer_product(p);
  gemm().run(p.x, false, p.dy, true, p.dw, 1);
}

void add_outer_products(const OuterProduct& first, const OuterProduct& second) {
  check_outer_product(first), check_outer_product(second);
  const auto alike = [](const at::Tensor& a, const at::Tensor& b) {
    DM_CHECK(a.sizes() == b.sizes() && a.strides() == b.strides() && a.scalar_type() == b.scalar_type(),
             "two products at once: {} and {}", describe(a), describe(b));
    DM_CHECK(a.const_data_ptr() <= b.const_data_ptr(), "two products at once: the second stands in front");
  };
  alike(first.dy, second.dy), alike(first.x, second.x), alike(first.dw, second.dw);
  gemm().run({first.x, second.x}, false, {first.dy, second.dy}, true, {first.dw, second.dw}, 1);
}

}  // namespace dm::kernels
