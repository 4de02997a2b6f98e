#include "checkpoints/memory_store.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "checkpoints/boxes.h"
#include "checkpoints/directory.h"
#include "checkpoints/host_files.h"
#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/vote.h"
#include "checkpoints/writer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dm::checkpoints {
namespace fs = std::filesystem;
namespace {

constexpr const char* kRunName = "run";
constexpr int64_t kMaxPathBytes = 64 << 10;
constexpr double kGiB = 1024.0 * 1024 * 1024;

/// "" when there is none.
std::string nonce_of(const std::string& run_directory) {
  const std::string path = run_directory + "/" + kMemoryName;
  return fs::exists(path) ? read_regular(path, kMaxPathBytes) : "";
}

/// Whether the run that a directory belongs to has gone on without it.
bool is_orphan(const fs::path& directory, const std::string& host) {
  const std::string run = read_regular((directory / kRunName).string(), kMaxPathBytes);
  if (!fs::exists(fs::path(run).parent_path())) return false;  // its file system may be elsewhere
  return directory.filename() != memory_name(nonce_of(run), host);
}

void remove_orphans(const std::string& memory_directory, const std::string& host) {
  const auto left_behind = [&](const std::string& name) {
    const fs::path path = fs::path(memory_directory) / name;
    if (!is_memory_name(name, host) || !fs::exists(path / kRunName)) return false;
    try {
      return is_orphan(path, host);
    } catch (const Error& error) {  // of another user, say
      log_warn("{}: {}", path.string(), error.what());
      return false;
    }
  };
  for (const fs::path& path : entries(memory_directory, left_behind)) {
    log_info("{}: snapshots that their run has gone on without; removed", path.string());
    fs::remove_all(path);
  }
}

int64_t bytes_below(const std::string& directory) {
  int64_t bytes = 0;
  if (!fs::exists(directory)) return 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

/// A snapshot as hosts hold it, by their first ranks.
struct Held {
  int64_t files = 0;                                // of the whole
  std::map<int64_t, std::vector<int64_t>> holders;  // by file
  std::vector<int64_t> manifests;
  bool complete() const { return static_cast<int64_t>(holders.size()) == files; }
};
using Snapshots = std::map<std::pair<int64_t, std::string>, Held>;  // by step and COMMIT

/// What this host has: [[step, commit, files, [file, ...]], ...]
Json holdings(const std::string& directory) {
  Json all = Json::array();
  if (!fs::exists(directory)) return all;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (!parse_step_name(entry.path().filename().string())) continue;
    try {
      const std::string path = entry.path();
      const Manifest manifest = read_manifest(path);
      Json files = Json::array();
      for (size_t i = 0; i < manifest.files.size(); ++i) {
        std::error_code absent;
        const auto size = fs::file_size(path + "/" + manifest.files[i].name, absent);
        if (!absent && static_cast<int64_t>(size) == manifest.files[i].size_bytes) files.push_back(i);
      }
      all.push_back(
          {manifest.step, read_regular(path + "/" + kCommitName, 4096), manifest.files.size(), files});
    } catch (const Error& error) {
      log_warn("a snapshot is left out: {}", error.what());
    }
  }
  return all;
}

Snapshots merged(const std::vector<std::string>& ballots) {
  Snapshots all;
  for (size_t rank = 0; rank < ballots.size(); ++rank) {
    if (ballots[rank].empty()) continue;
    for (const Json& one : Json::parse(ballots[rank])) {
      Held& held = all[{one[0].get<int64_t>(), one[1].get<std::string>()}];
      held.files = one[2];
      held.manifests.push_back(static_cast<int64_t>(rank));
      for (const Json& file : one[3]) held.holders[file].push_back(static_cast<int64_t>(rank));
    }
  }
  return all;
}

/// The files of which these pieces want something.
std::set<int64_t> files_of(const Manifest& manifest, const std::vector<Piece>& wanted) {
  std::set<int64_t> files;
  for (const Piece& piece : wanted)
    if (const Manifest::Tensor* tensor = manifest.find(piece.name))
      for (const auto& stored : tensor->pieces)
        if (piece.box.count() > 0 && stored.box.shape.size() == piece.box.shape.size() &&
            intersect(stored.box, piece.box))
          files.insert(stored.file);
  return files;
}

}  // namespace

struct MemoryStore::Impl {
  std::string run_directory, memory_directory;
  Collectives& group;
  std::string host, nonce;
  RankFiles hosts;
  Held held;  // of what newest() gave

  bool leads() const { return hosts.leads(group.rank()); }
  std::string directory() const { return memory_directory + "/" + memory_name(nonce, host); }

  /// Work of the first rank of each host; an error of one is that of all.
  std::vector<std::string> on_hosts(const std::function<std::string()>& work) {
    return vote(group, [&] { return leads() ? with_errno(work) : std::string(); });
  }

  void open() {
    hosts = RankFiles::make(vote(group, [&] { return host; }), 0);
    nonce = vote_of_rank_0(group, [&] { return with_errno([&] { return nonce_of(run_directory); }); });
    on_hosts([&] {
      DM_REQUIRE(fs::is_directory(memory_directory), ExitCode::usage,
                 "--memory-dir {}: no such directory on {}; name one in memory, such as /dev/shm",
                 memory_directory, host);
      remove_orphans(memory_directory, host);
      if (!nonce.empty() && fs::exists(directory()))
        for (const fs::path& leftover : entries(directory(), is_leftover_name)) fs::remove_all(leftover);
      return std::string();
    });
  }

  /// The manifest and COMMIT of the snapshot, where a host lacks them.
  void spread_manifest(const std::string& path, const std::string& commit) {
    const int64_t from = held.manifests.front();
    const bool has =
        std::find(held.manifests.begin(), held.manifests.end(), group.rank()) != held.manifests.end();
    std::string text;
    vote(group, [&] {
      if (group.rank() == from) text = read_regular(path + "/" + kManifestName, kMaxManifestBytes);
      return std::string();
    });
    text.resize(static_cast<size_t>(group.all_max(static_cast<int64_t>(text.size()))));
    group.broadcast(text.data(), static_cast<int64_t>(text.size()), DType::u8, from);
    on_hosts([&] {
      if (has) return std::string();
      fs::create_directories(path);
      write_file_atomically(path + "/" + kManifestName, text);
      write_file_atomically(path + "/" + kCommitName, commit);
      return std::string();
    });
  }

  /// What ranks of this host want and it lacks. Files go one after the other, each from the first host that
  /// has it.
  void fetch(const std::string& path, const Manifest& manifest, const std::vector<Piece>& wanted) {
    Json list = files_of(manifest, wanted);
    std::vector<std::set<int64_t>> by_host(static_cast<size_t>(hosts.files));
    const std::vector<std::string> lists = vote(group, [&] { return list.dump(); });
    for (size_t rank = 0; rank < lists.size(); ++rank)
      for (const Json& file : Json::parse(lists[rank]))
        by_host[static_cast<size_t>(hosts.file_of_rank[rank])].insert(file.get<int64_t>());
    const std::vector<int64_t> leaders = hosts.leaders();
    std::string problem;
    for (size_t h = 0; h < by_host.size(); ++h)
      for (const int64_t file : by_host[h]) {
        const std::vector<int64_t>& holders = held.holders.at(file);
        const int64_t to = leaders[h], from = holders.front();
        if (std::find(holders.begin(), holders.end(), to) != holders.end()) continue;
        const Manifest::File& named = manifest.files[static_cast<size_t>(file)];
        const auto end = [&](int64_t rank) {
          return Transfer{path + "/" + named.name, named.size_bytes, rank};
        };
        if (group.rank() == from) problem += exchange_files(end(to), std::nullopt, group);
        if (group.rank() == to) problem += exchange_files(std::nullopt, end(from), group);
        if (group.rank() == to)
          log_info("{}: fetched from the memory of another host ({:.2f} GB)", named.name,
                   static_cast<double>(named.size_bytes) * 1e-9);
      }
    vote(group, [&] {
      DM_REQUIRE(problem.empty(), ExitCode::io, "{}", problem);
      return std::string();
    });
  }

  void remove_directory() {
    if (nonce.empty()) return;
    on_hosts([&] {
      fs::remove_all(directory());
      return std::string();
    });
  }
};

MemoryStore::MemoryStore(std::string run_directory, std::string memory_directory, Collectives& group,
                         std::string host)
    : impl_(new Impl{fs::absolute(run_directory).lexically_normal().string(),
                     std::move(memory_directory),
                     group,
                     std::move(host),
                     {},
                     {},
                     {}}) {
  impl_->open();
}
MemoryStore::~MemoryStore() = default;

int64_t snapshot_room(const std::vector<int64_t>& bytes_of_hosts) {
  const size_t hosts = bytes_of_hosts.size();
  int64_t most = 0;
  for (size_t h = 0; h < hosts; ++h)
    most =
        std::max(most, 2 * (bytes_of_hosts[h] + (hosts > 1 ? bytes_of_hosts[(h + hosts - 1) % hosts] : 0)));
  return most;
}

int64_t MemoryStore::require_room(int64_t bytes_of_rank) {
  Impl& my = *impl_;
  std::vector<int64_t> bytes(static_cast<size_t>(my.hosts.files));
  const auto ballots = vote(my.group, [&] { return std::to_string(bytes_of_rank); });
  for (size_t rank = 0; rank < ballots.size(); ++rank)
    bytes[static_cast<size_t>(my.hosts.file_of_rank[rank])] += std::stoll(ballots[rank]);
  const int64_t most = snapshot_room(bytes);
  my.on_hosts([&] {
    const int64_t room = free_bytes(my.memory_directory) + bytes_below(my.directory());
    DM_REQUIRE(room >= most, ExitCode::usage,
               "--memory-snapshot-every: two snapshots of a host and the one before it take {:.2f} GiB in {} "
               "of {}, where {:.2f} GiB "
               "are free; enlarge it (mount -o remount,size=...), name another with --memory-dir, or leave "
               "the option out",
               static_cast<double>(most) / kGiB, my.memory_directory, my.host,
               static_cast<double>(room) / kGiB);
    return std::string();
  });
  return most;
}

std::optional<Summary> MemoryStore::newest() {
  Impl& my = *impl_;
  if (my.nonce.empty()) return std::nullopt;
  const Snapshots all = merged(my.on_hosts([&] { return holdings(my.directory()).dump(); }));
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    const auto& [step, commit] = one->first;
    if (!one->second.complete()) {
      log_warn(
          "the snapshot of step {} is left out: only {} of its {} files are in the memory of these hosts",
          step, one->second.holders.size(), one->second.files);
      continue;
    }
    my.held = one->second;
    const std::string path = my.directory() + "/" + step_name(step);
    my.spread_manifest(path, commit);
    Summary summary;
    vote(my.group, [&] { return summary = read_summary(path), std::string(); });
    return summary;
  }
  return std::nullopt;
}

void MemoryStore::load(const Summary& snapshot, const std::vector<Piece>& wanted) {
  Impl& my = *impl_;
  Manifest manifest;
  vote(my.group, [&] { return manifest = read_manifest(snapshot.directory), std::string(); });
  my.fetch(snapshot.directory, manifest, wanted);
  vote(my.group, [&] { return checkpoints::load(snapshot.directory, wanted), std::string(); });
}

void MemoryStore::begin_anew() {
  Impl& my = *impl_;
  my.remove_directory();
  my.nonce = vote_of_rank_0(my.group, [&] {
    const std::string nonce = make_nonce();
    write_file_atomically(my.run_directory + "/" + kMemoryName, nonce);
    return nonce;
  });
}

void MemoryStore::save(int64_t step, const std::vector<Piece>& pieces, const Json& meta) {
  Impl& my = *impl_;
  my.on_hosts([&] {
    fs::create_directories(my.directory());
    fs::permissions(my.directory(), fs::perms::owner_all);
    write_file_atomically(my.directory() + "/" + kRunName, my.run_directory);
    return std::string();
  });
  // Clocks differ from rank to rank, manifests may not.
  const Json common = Json::parse(vote_of_rank_0(my.group, [&] { return meta.dump(); }));
  write_checkpoint(
      my.directory(), step, pieces, common, my.hosts, my.group, [] {}, DirectoryOf::each_host);
  // Not before it stands on every host: until then only those before it are whole.
  my.on_hosts([&] {
    const auto is_before = [&](const std::string& name) {
      const auto other = parse_step_name(name);
      return other && *other != step;
    };
    for (const fs::path& path : entries(my.directory(), is_before)) fs::remove_all(path);
    return std::string();
  });
}

void MemoryStore::remove() {
  Impl& my = *impl_;
  my.remove_directory();
  vote_of_rank_0(my.group, [&] { return forget_snapshots(my.run_directory), std::string(); });
}

void forget_snapshots(const std::string& run_directory) {
  with_errno([&] { fs::remove(run_directory + "/" + kMemoryName); });
}

}  // namespace dm::checkpoints
