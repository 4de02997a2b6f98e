#include "tests/kernels/cuda/ssd_problem.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <random>
#include <thread>

namespace dm::test {
namespace {

float to_bf16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

std::vector<float> normal(std::mt19937_64& random, int64_t count, Element element) {
  std::normal_distribution<float> draw;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = element == Element::kBFloat16 ? to_bf16(draw(random)) : draw(random);
  return values;
}

/// One head of one row. dB and dC get this head's part at [token, n] of their own arrays.
struct HeadRecurrence {
  const SsdProblem& in;
  const SsdShape& shape;
  int64_t row, head, p_count, n_count, group;

  int64_t xs(int64_t t, int64_t p) const {
    return ((row * shape.length + t) * shape.heads + head) * p_count + p;
  }
  int64_t bs(int64_t t, int64_t n) const {
    return ((row * shape.length + t) * shape.groups + group) * n_count + n;
  }
  int64_t hs(int64_t t) const { return (row * shape.length + t) * shape.heads + head; }
  int64_t ss(int64_t i) const { return (row * shape.heads + head) * p_count * n_count + i; }
  double decay(int64_t t) const {
    const int64_t at = row * shape.length + t;
    if (in.seq_idx[at] != (t > 0 ? in.seq_idx[at - 1] : in.before[row])) return 0;
    return std::exp(double(in.dt[hs(t)]) * in.a[head]);
  }

  void run(SsdResults<double>& out, std::vector<double>& db, std::vector<double>& dc, double& da,
           double& dd) const {
    const int64_t size = p_count * n_count, length = shape.length;
    std::vector<double> states((length + 1) * size), ds(size, 0.);
    for (int64_t i = 0; i < size; ++i) {
      states[i] = in.spec.states ? in.initial_state[ss(i)] : 0.;
      if (in.spec.states) ds[i] = in.dfinal_state[ss(i)];
    }
    double& through = out.decay[row * shape.heads + head] = 1;
    for (int64_t t = 0; t < length; ++t) {
      const double f = decay(t), dt = in.dt[hs(t)];
      through *= f;
      const double* const before = &states[t * size];
      double* const after = &states[(t + 1) * size];
      for (int64_t p = 0; p < p_count; ++p) {
        const double x = in.x[xs(t, p)];
        double y = in.d[head] * x;
        for (int64_t n = 0; n < n_count; ++n) {
          const double s = f * before[p * n_count + n] + dt * x * in.b[bs(t, n)];
          after[p * n_count + n] = s;
          y += s * in.c[bs(t, n)];
        }
        out.y[xs(t, p)] = y;
      }
    }
    for (int64_t i = 0; i < size; ++i) out.final_state[ss(i)] = states[length * size + i];
    for (int64_t t = length - 1; t >= 0; --t) {
      const double f = decay(t), dt = in.dt[hs(t)];
      const double* const before = &states[t * size];
      const double* const after = &states[(t + 1) * size];
      double through_input = 0, through_decay = 0;
      for (int64_t p = 0; p < p_count; ++p) {
        const double x = in.x[xs(t, p)], dy = in.dy[xs(t, p)];
        double dx = 0;
        for (int64_t n = 0; n < n_count; ++n) {
          double& g = ds[p * n_count + n];
          g += dy * in.c[bs(t, n)];
          dc[t * n_count + n] += dy * after[p * n_count + n];
          db[t * n_count + n] += dt * x * g;
          dx += g * in.b[bs(t, n)];
          through_decay += f * g * before[p * n_count + n];
          g *= f;
        }
        through_input += x * dx;
        dd += dy * x;
        out.dx[xs(t, p)] = dt * dx + in.d[head] * dy;
      }
      out.ddt[hs(t)] = through_input + in.a[head] * through_decay;
      da += dt * through_decay;
    }
    for (int64_t i = 0; i < size; ++i) out.dinitial_state[ss(i)] = ds[i];
  }
};

}  // namespace

SsdProblem::SsdProblem(const SsdCase& given) : spec(given) {
  std::mt19937_64 random(spec.seed);
  const SsdShape& s = spec.shape;
  const int64_t tokens = s.rows * s.length, states = s.rows * s.heads * s.head_dim * s.state;
  x = normal(random, tokens * s.heads * s.head_dim, spec.element);
  b = normal(random, tokens * s.groups * s.state, spec.element);
  c = normal(random, tokens * s.groups * s.state, spec.element);
  dy = normal(random, tokens * s.heads * s.head_dim, spec.element);
  d = normal(random, s.heads, Element::kFloat32);
  initial_state = normal(random, states, Element::kFloat32);
  dfinal_state = normal(random, states, Element::kFloat32);
  std::uniform_real_distribution<float> uniform;
  std::normal_distribution<float> draw;
  std::vector<float> bias(static_cast<size_t>(s.heads));
  for (int64_t h = 0; h < s.heads; ++h) {
    a.push_back(spec.decay != 0 ? spec.decay : -1.f - 15.f * uniform(random));
    const float step = std::exp(std::log(1e-3f) + uniform(random) * std::log(100.f));
    bias[static_cast<size_t>(h)] = std::log(std::expm1(step));
  }
  for (int64_t i = 0; i < tokens * s.heads; ++i)
    dt.push_back(spec.step != 0
                     ? spec.step
                     : std::log1p(std::exp(0.5f * draw(random) + bias[static_cast<size_t>(i % s.heads)])));
  for (int64_t row = 0; row < s.rows; ++row) {
    int32_t id = 7;
    before.push_back(spec.foreign ? id - 1 : id);
    for (int64_t t = 0; t < s.length; ++t) {
      if (t > 0 && uniform(random) * static_cast<float>(s.length) < static_cast<float>(spec.documents - 1))
        ++id;
      seq_idx.push_back(id);
    }
  }
}

void SsdProblem::redraw_document(int64_t row, int32_t id) {
  SsdCase other = spec;
  other.seed += 1;
  const SsdProblem from(other);
  for (int64_t t = row * spec.shape.length; t < (row + 1) * spec.shape.length; ++t) {
    if (seq_idx[static_cast<size_t>(t)] != id) continue;
    for (const auto values :
         {&SsdProblem::x, &SsdProblem::dt, &SsdProblem::b, &SsdProblem::c, &SsdProblem::dy}) {
      const int64_t width = int64_t((this->*values).size()) / (spec.shape.rows * spec.shape.length);
      std::copy_n((from.*values).begin() + t * width, width, (this->*values).begin() + t * width);
    }
  }
}

SsdResults<double> recurrence(const SsdProblem& problem) {
  const SsdShape& s = problem.spec.shape;
  SsdResults<double> out;
  out.y.resize(problem.x.size());
  out.dx.resize(problem.x.size());
  out.ddt.resize(problem.dt.size());
  out.final_state.resize(problem.initial_state.size());
  out.dinitial_state.resize(problem.initial_state.size());
  out.decay.resize(s.rows * s.heads);
  out.da.resize(problem.a.size());
  out.dd.resize(problem.a.size());
  out.db.resize(problem.b.size());
  out.dc.resize(problem.b.size());
  const int64_t count = s.rows * s.heads;
  struct Parts {
    std::vector<double> db, dc;
    double da = 0, dd = 0;
  };
  std::vector<Parts> parts(static_cast<size_t>(count));
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i)
    threads.emplace_back([&] {
      for (int64_t i; (i = next++) < count;) {
        Parts& part = parts[static_cast<size_t>(i)];
        part.db.assign(static_cast<size_t>(s.length * s.state), 0.);
        part.dc = part.db;
        const int64_t head = i % s.heads;
        HeadRecurrence{problem, s, i / s.heads, head, s.head_dim, s.state, head / (s.heads / s.groups)}.run(
            out, part.db, part.dc, part.da, part.dd);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (int64_t i = 0; i < count; ++i) {
    const Parts& part = parts[static_cast<size_t>(i)];
    const int64_t row = i / s.heads, head = i % s.heads, group = head / (s.heads / s.groups);
    out.da[static_cast<size_t>(head)] += part.da;
    out.dd[static_cast<size_t>(head)] += part.dd;
    for (int64_t t = 0; t < s.length; ++t)
      for (int64_t n = 0; n < s.state; ++n) {
        const size_t to = static_cast<size_t>(((row * s.length + t) * s.groups + group) * s.state + n);
        out.db[to] += part.db[static_cast<size_t>(t * s.state + n)];
        out.dc[to] += part.dc[static_cast<size_t>(t * s.state + n)];
      }
  }
  out.passed = out.final_state;
  out.passed_back = out.dinitial_state;
  return out;
}

void SsdErrorPool::add(const SsdResults<float>& got, const SsdResults<double>& truth) {
  int index = 0;
  const auto add = [&](const std::vector<float>& g, const std::vector<double>& t) {
    for (size_t i = 0; i < t.size(); ++i) {
      difference_[index] += (g[i] - t[i]) * (g[i] - t[i]);
      norm_[index] += t[i] * t[i];
    }
    ++index;
  };
  add(got.y, truth.y);
  add(got.final_state, truth.final_state);
  add(got.dx, truth.dx);
  add(got.ddt, truth.ddt);
  add(got.da, truth.da);
  add(got.db, truth.db);
  add(got.dc, truth.dc);
  add(got.dd, truth.dd);
  add(got.dinitial_state, truth.dinitial_state);
  add(got.passed, truth.passed);
  add(got.passed_back, truth.passed_back);
  add(got.decay, truth.decay);
  norm_[index - 1] +=
      static_cast<double>(truth.decay.size());  // they are 1 at most, and may all be next to 0
}

std::vector<SsdError> SsdErrorPool::errors() const {
  constexpr const char* kNames[kResults] = {
      "y",  "final_state",    "dx",     "ddt",         "da",   "db", "dc",
      "dd", "dinitial_state", "passed", "passed_back", "decay"};
  std::vector<SsdError> all;
  for (int i = 0; i < kResults; ++i)
    all.push_back({kNames[i], std::sqrt(norm_[i] > 0 ? difference_[i] / norm_[i] : difference_[i])});
  return all;
}

std::vector<SsdError> errors(const SsdResults<float>& got, const SsdResults<double>& truth) {
  SsdErrorPool pool;
  pool.add(got, truth);
  return pool.errors();
}

}  // namespace dm::test
