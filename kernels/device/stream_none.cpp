// A build without CUDA.

#include "kernels/device/stream.h"

namespace dm::kernels {

void* current_stream_handle() { return nullptr; }

struct Mark::Impl {};
Mark::Mark(bool) {}
Mark::~Mark() = default;
Mark::Mark(Mark&&) noexcept = default;
Mark& Mark::operator=(Mark&&) noexcept = default;
void Mark::set() {}
void Mark::wait() const {}
double Mark::ms_since(const Mark&) const { return 0; }

struct Fence::Impl {};
Fence::Fence(bool) {}
Fence::~Fence() = default;
void Fence::set() {}
void Fence::wait() const {}

struct SideStream::Impl {};
SideStream::SideStream(bool) {}
SideStream::~SideStream() = default;
void SideStream::run(const std::function<void()>& work) const { work(); }

}  // namespace dm::kernels
