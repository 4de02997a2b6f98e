#include "tests/kernels/cuda/ssd_run.cuh"

#include <bit>
#include <cstdio>
#include <cstdlib>

namespace dm::test {
namespace {

using namespace kernels::cuda;

int64_t size_of(Element element) { return element == Element::kFloat32 ? 4 : 2; }

/// Packs column ranges [tokens, widths[i]] of floats into rows of `stride` elements.
std::vector<char> pack_columns(const std::vector<const std::vector<float>*>& parts, int64_t tokens,
                               Element element) {
  const int64_t size = size_of(element);
  int64_t stride = 0;
  for (const auto* part : parts) stride += int64_t(part->size()) / tokens;
  std::vector<char> bytes(static_cast<size_t>(tokens * stride * size));
  int64_t column = 0;
  for (const auto* part : parts) {
    const int64_t width = int64_t(part->size()) / tokens;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < width; ++i) {
        const uint32_t bits = std::bit_cast<uint32_t>((*part)[static_cast<size_t>(t * width + i)]);
        char* const at = bytes.data() + (t * stride + column + i) * size;
        if (element == Element::kFloat32)
          *reinterpret_cast<uint32_t*>(at) = bits;
        else
          *reinterpret_cast<uint16_t*>(at) = static_cast<uint16_t>(bits >> 16);
      }
    column += width;
  }
  return bytes;
}

std::vector<float> unpack(const void* device, int64_t tokens, int64_t width, int64_t stride,
                          Element element) {
  const int64_t size = size_of(element);
  std::vector<char> bytes(static_cast<size_t>(tokens * width * size));
  require_cuda(cudaMemcpy2D(bytes.data(), width * size, device, stride * size, width * size, tokens,
                            cudaMemcpyDeviceToHost),
               "copy of a result");
  std::vector<float> values(static_cast<size_t>(tokens * width));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        element == Element::kFloat32
            ? reinterpret_cast<const float*>(bytes.data())[i]
            : std::bit_cast<float>(uint32_t(reinterpret_cast<const uint16_t*>(bytes.data())[i]) << 16);
  return values;
}

void* columns_from(void* base, int64_t elements, Element element) {
  return static_cast<char*>(base) + elements * size_of(element);
}

}  // namespace

void require_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("CUDA error in %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

DeviceBuffer::DeviceBuffer(int64_t bytes) : bytes_(bytes) {
  require_cuda(cudaMalloc(&data_, static_cast<size_t>(bytes > 0 ? bytes : 1)), "cudaMalloc");
  poison();
}
DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }
void DeviceBuffer::poison() const {
  require_cuda(cudaMemset(data_, 0xff, static_cast<size_t>(bytes_)), "cudaMemset");
  require_cuda(cudaDeviceSynchronize(), "cudaMemset");  // the tests' stream does not wait for the default one
}

DeviceBuffer* SsdRun::buffer(int64_t bytes) {
  buffers_.push_back(std::make_unique<DeviceBuffer>(bytes));
  return buffers_.back().get();
}

float* SsdRun::upload(const std::vector<float>& values) {
  DeviceBuffer* const to = buffer(int64_t(values.size()) * 4);
  require_cuda(cudaMemcpy(to->data(), values.data(), values.size() * 4, cudaMemcpyHostToDevice), "upload");
  return static_cast<float*>(to->data());
}

SsdRun::SsdRun(const SsdProblem& problem, SsdPath path, cudaStream_t stream)
    : shape_(problem.spec.shape),
      element_(problem.spec.element),
      states_(problem.spec.states),
      stream_(stream),
      path_(path) {
  const int64_t tokens = shape_.rows * shape_.length, width = shape_.heads * shape_.head_dim;
  const int64_t columns = shape_.groups * shape_.state, stride = width + 2 * columns;
  const std::vector<char> xbc = pack_columns({&problem.x, &problem.b, &problem.c}, tokens, element_);
  const std::vector<char> dy = pack_columns({&problem.dy}, tokens, element_);
  DeviceBuffer* const xbc_buffer = buffer(int64_t(xbc.size()));
  DeviceBuffer* const dy_buffer = buffer(int64_t(dy.size()));
  require_cuda(cudaMemcpy(xbc_buffer->data(), xbc.data(), xbc.size(), cudaMemcpyHostToDevice), "upload");
  require_cuda(cudaMemcpy(dy_buffer->data(), dy.data(), dy.size(), cudaMemcpyHostToDevice), "upload");
  DeviceBuffer* const ids = buffer(int64_t(problem.seq_idx.size()) * 4);
  require_cuda(
      cudaMemcpy(ids->data(), problem.seq_idx.data(), problem.seq_idx.size() * 4, cudaMemcpyHostToDevice),
      "upload");

  SsdInputs in{};
  in.shape = shape_;
  in.element = element_;
  in.x = xbc_buffer->data();
  in.b = columns_from(xbc_buffer->data(), width, element_);
  in.c = columns_from(xbc_buffer->data(), width + columns, element_);
  in.x_stride = in.b_stride = in.c_stride = stride;
  in.dt = upload(problem.dt);
  in.a = upload(problem.a);
  in.d = upload(problem.d);
  in.seq_idx = static_cast<const int32_t*>(ids->data());
  if (states_) {
    in.initial_state = upload(problem.initial_state);
    DeviceBuffer* const before = buffer(shape_.rows * 4);
    require_cuda(
        cudaMemcpy(before->data(), problem.before.data(), problem.before.size() * 4, cudaMemcpyHostToDevice),
        "upload");
    in.before = static_cast<const int32_t*>(before->data());
  }

  const int64_t state_bytes = int64_t(problem.initial_state.size()) * 4;
  const auto output = [&](int64_t bytes) {
    outputs_.push_back(buffer(bytes));
    return outputs_.back()->data();
  };
  forward_.in = backward_.in = in;
  forward_.y = output(tokens * width * size_of(element_));
  forward_.y_stride = width;
  forward_.final_state = static_cast<float*>(output(state_bytes));
  forward_.saved = output(ssd_saved_bytes(shape_, path_));
  forward_.save_states = true;
  forward_.workspace = output(ssd_forward_bytes(shape_, path_));
  backward_.saved = forward_.saved;
  backward_.dy = dy_buffer->data();
  backward_.dy_stride = width;
  backward_.dfinal_state = states_ ? upload(problem.dfinal_state) : nullptr;
  backward_.workspace = output(ssd_workspace_bytes(shape_, path_));
  void* const dxbc = output(tokens * stride * size_of(element_));
  backward_.dx = dxbc;
  backward_.db = columns_from(dxbc, width, element_);
  backward_.dc = columns_from(dxbc, width + columns, element_);
  backward_.bc_element = element_;
  backward_.dx_stride = backward_.db_stride = backward_.dc_stride = stride;
  backward_.ddt = static_cast<float*>(output(tokens * shape_.heads * 4));
  backward_.da = static_cast<float*>(output(shape_.heads * 4));
  backward_.dd = static_cast<float*>(output(shape_.heads * 4));
  backward_.dinitial_state = static_cast<float*>(output(state_bytes));
  passage_.in = passage_back_.in = in;
  passage_.saved = forward_.saved;
  passage_.workspace = forward_.workspace;
  passage_back_.dy = backward_.dy;
  passage_back_.dy_stride = backward_.dy_stride;
  passage_back_.dfinal_state = backward_.dfinal_state;
  passage_back_.saved = forward_.saved;
  passage_back_.workspace = backward_.workspace;
  for (SsdPassage* passage : {&passage_, &passage_back_}) {
    passage->state = static_cast<float*>(output(state_bytes));
    passage->decay = static_cast<float*>(output(shape_.rows * shape_.heads * 4));
  }
}

void SsdRun::forward() const { require_cuda(ssd_forward(forward_, path_, stream_), "ssd_forward"); }
void SsdRun::backward() const { require_cuda(ssd_backward(backward_, path_, stream_), "ssd_backward"); }
void SsdRun::passage() const { require_cuda(ssd_passage(passage_, path_, stream_), "ssd_passage"); }
void SsdRun::passage_back() const {
  require_cuda(ssd_passage(passage_back_, path_, stream_), "ssd_passage back");
}
void SsdRun::pieces() const {
  SsdForward forward = forward_;
  SsdBackward backward = backward_;
  forward.passed = backward.passed = true;
  passage();
  require_cuda(ssd_forward(forward, path_, stream_), "ssd_forward");
  passage_back();
  require_cuda(ssd_backward(backward, path_, stream_), "ssd_backward");
}
void SsdRun::poison() const {
  for (const DeviceBuffer* output : outputs_) output->poison();
}

SsdResults<float> SsdRun::results() const {
  require_cuda(cudaStreamSynchronize(stream_), "the kernels");
  const int64_t tokens = shape_.rows * shape_.length, width = shape_.heads * shape_.head_dim;
  const int64_t columns = shape_.groups * shape_.state, states = shape_.rows * width * shape_.state;
  const auto flat = [](const float* from, int64_t count) {
    return unpack(from, 1, count, count, Element::kFloat32);
  };
  SsdResults<float> out;
  out.y = unpack(forward_.y, tokens, width, width, element_);
  out.final_state = flat(forward_.final_state, states);
  out.dx = unpack(backward_.dx, tokens, width, backward_.dx_stride, element_);
  out.db = unpack(backward_.db, tokens, columns, backward_.db_stride, element_);
  out.dc = unpack(backward_.dc, tokens, columns, backward_.dc_stride, element_);
  out.ddt = flat(backward_.ddt, tokens * shape_.heads);
  out.da = flat(backward_.da, shape_.heads);
  out.dd = flat(backward_.dd, shape_.heads);
  out.dinitial_state = flat(backward_.dinitial_state, states);
  out.passed = flat(passage_.state, states);
  out.passed_back = flat(passage_back_.state, states);
  out.decay = flat(passage_.decay, shape_.rows * shape_.heads);
  return out;
}

}  // namespace dm::test
