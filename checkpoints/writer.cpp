#include "checkpoints/writer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "checkpoints/directory.h"
#include "checkpoints/host_files.h"
#include "checkpoints/names.h"
#include "checkpoints/plan.h"
#include "checkpoints/vote.h"
#include "core/error.h"
#include "core/failpoint.h"
#include "core/files.h"
#include "core/log.h"
#include "core/progress.h"

namespace dm::checkpoints {
namespace {

// Room beyond the payload that a save asks for: HDF5's metadata (a few hundred bytes a dataset), manifest,
// directory.
constexpr int64_t kRoomPerPiece = 2048;
constexpr int64_t kRoomForTheRest = 1 << 20;

/// One save as one rank sees it. Members are called in the order they stand in.
class Save {
 public:
  Save(const std::string& directory, int64_t step, const RankFiles& files, Collectives& group, DirectoryOf of)
      : directory_(directory),
        step_(step),
        files_(files),
        group_(group),
        of_each_host_(of == DirectoryOf::each_host),
        file_(files.file_of_rank[group.rank()]),
        commits_(of_each_host_ ? files.leads(group.rank()) : group.rank() == 0) {}

  void run(const std::vector<Piece>& pieces, const Json& meta, const std::function<void()>& before_commit) {
    plan_ = make_plan(step_, vote(group_, [&] { return piece_list(pieces); }), files_.file_of_rank);
    temporary_ = directory_ + "/" + temporary_name(step_, vote_of_rank_0(group_, make_nonce));
    try {
      vote(group_, [&] { return make_directory(); });
      take_layouts(vote(group_, [&] { return files_.leads(group_.rank()) ? create_file() : std::string(); }));
      take_hashes(vote(group_, [&] { return write_pieces(pieces); }));
      if (of_each_host_) copy_to_next_host();
      vote(group_, [&] { return commits_ ? commit(meta, before_commit) : std::string(); });
    } catch (...) {
      if (commits_) remove_temporary();  // the vote is over: nobody writes there any more
      throw;
    }
  }

 private:
  int64_t host_before() const { return (file_ + files_.files - 1) % files_.files; }
  bool lies_here(int64_t file) const { return !of_each_host_ || file == file_ || file == host_before(); }
  std::string shard_path() const { return temporary_ + "/" + shard_name(file_, files_.files); }

  std::string make_directory() {
    if (files_.leads(group_.rank())) require_space();
    if (commits_) {
      DM_FAILPOINT("save.before_mkdir");
      DM_SYS(mkdir(temporary_.c_str(), 0777), "make directory", temporary_);
      DM_FAILPOINT("save.after_mkdir");
    }
    return "";
  }

  /// A full disk found here costs nothing; fallocate makes sure of it later.
  void require_space() const {
    int64_t needed = kRoomForTheRest;
    for (const auto& source : plan_.sources)
      if (const auto& stored = plan_.stored(source); lies_here(stored.file))
        needed += stored.size_bytes + kRoomPerPiece;
    const int64_t free = free_bytes(directory_);
    DM_REQUIRE(free >= needed, ExitCode::io,
               "{}: a checkpoint of step {} needs {} bytes, {} are free; free space there or choose another "
               "run directory",
               directory_, step_, needed, free);
  }

  /// By the first rank of each file. Returns its layout: [size, metadata digest, offset of each dataset].
  std::string create_file() {
    const std::string path = shard_path();
    const auto number = [](int64_t value) { return static_cast<uint64_t>(value); };
    const H5Layout layout = create_h5(path, plan_.datasets(file_),
                                      {{"format", std::string(kFormat)},
                                       {"version", number(kFormatVersion)},
                                       {"step", number(step_)},
                                       {"file_index", number(file_)},
                                       {"file_count", number(files_.files)}});
    DM_FAILPOINT("save.after_create");
    File::open(path, O_WRONLY | O_NOFOLLOW).allocate(layout.file_size_bytes);
    DM_FAILPOINT("save.after_allocate");
    Json answer{layout.file_size_bytes, hex(metadata_digest(path, layout))};
    for (const H5Dataset& dataset : layout.datasets) answer.push_back(dataset.offset_bytes);
    return answer.dump();
  }

  void take_layouts(const std::vector<std::string>& answers) {
    for (size_t r = 0; r < answers.size(); ++r) {
      if (answers[r].empty()) continue;
      const Json answer = Json::parse(answers[r]);
      const int64_t file = files_.file_of_rank[r];
      plan_.manifest.files.push_back(
          {shard_name(file, files_.files), answer[0], parse_hash128(answer[1].get<std::string>(), "layout")});
      size_t next = 2;
      for (const auto& source : plan_.in_file(file)) plan_.stored(source).offset_bytes = answer[next++];
    }
  }

  /// Each rank's own pieces, side by side in the file of its host. Returns the hashes of their chunks.
  std::string write_pieces(const std::vector<Piece>& pieces) {
    File file = File::open(shard_path(), O_WRONLY | O_NOFOLLOW);
    Json answer = Json::array();
    for (const auto& source : plan_.sources) {
      if (source.rank != group_.rank()) continue;
      const auto& stored = plan_.stored(source);
      const auto* data = static_cast<const std::byte*>(pieces[static_cast<size_t>(source.index)].data);
      Json chunks = Json::array();
      for (int64_t begin = 0; begin < stored.size_bytes; begin += kChunkBytes) {
        const auto size = static_cast<size_t>(std::min(kChunkBytes, stored.size_bytes - begin));
        chunks.push_back(xxh3_64(data + begin, size));
        file.write_at(data + begin, size, stored.offset_bytes + begin);
        made_progress();
        DM_FAILPOINT("save.in_payload");
      }
      answer.push_back(std::move(chunks));
    }
    DM_FAILPOINT("save.before_sync");
    file.sync();
    file.close();
    DM_FAILPOINT("save.after_sync");
    return answer.dump();
  }

  void take_hashes(const std::vector<std::string>& answers) {
    std::vector<Json> lists;
    for (const std::string& answer : answers) lists.push_back(Json::parse(answer));
    std::vector<size_t> next(answers.size(), 0);
    for (const auto& source : plan_.sources) {
      const auto r = static_cast<size_t>(source.rank);
      plan_.stored(source).chunks = lists[r][next[r]++].get<std::vector<uint64_t>>();
    }
  }

  /// So that the loss of one host loses nothing.
  void copy_to_next_host() {
    std::string problem;
    if (files_.files > 1 && commits_) {
      const std::vector<int64_t> leaders = files_.leaders();
      const int64_t next = (file_ + 1) % files_.files, before = host_before();
      const auto transfer = [&](int64_t file, int64_t host) {
        const Manifest::File& named = plan_.manifest.files[static_cast<size_t>(file)];
        return Transfer{temporary_ + "/" + named.name, named.size_bytes, leaders[static_cast<size_t>(host)]};
      };
      problem = exchange_files(transfer(file_, next), transfer(before, before), group_);
    }
    vote(group_, [&] {
      DM_REQUIRE(problem.empty(), ExitCode::io, "{}", problem);
      return std::string();
    });
    DM_FAILPOINT("save.after_copy");
  }

  std::string commit(const Json& meta, const std::function<void()>& before_commit) {
    plan_.manifest.meta = meta;
    const std::string text = to_text(plan_.manifest);
    const auto limit = static_cast<size_t>(kMaxManifestBytes);
    DM_CHECK(text.size() <= limit, "a manifest of {} bytes is beyond the format's {}", text.size(), limit);
    DM_FAILPOINT("save.before_manifest");
    write_new_file(temporary_ + "/" + kManifestName, text);
    DM_FAILPOINT("save.after_manifest");
    write_new_file(temporary_ + "/" + kCommitName, commit_line(text));
    DM_FAILPOINT("save.after_commit");
    sync_directory(temporary_);
    before_commit();
    publish(temporary_, directory_ + "/" + step_name(step_));
    return "";
  }

  void remove_temporary() const {
    std::error_code error;
    std::filesystem::remove_all(temporary_, error);
    if (error)
      log_warn("{}: cannot remove what a failed save left ({}); it is removed at the next start", temporary_,
               error.message());
  }

  const std::string& directory_;
  const int64_t step_;
  const RankFiles& files_;
  Collectives& group_;
  const bool of_each_host_;
  const int64_t file_;
  const bool commits_;  // does what one rank does for a directory
  SavePlan plan_;
  std::string temporary_;
};

}  // namespace

RankFiles RankFiles::make(const std::vector<std::string>& host_of_rank, int64_t ranks_per_file) {
  struct Open {
    int64_t file, ranks;
  };
  RankFiles result;
  std::map<std::string, Open> open;  // the file that the next rank of a host joins
  for (const std::string& host : host_of_rank) {
    const auto found = open.find(host);
    if (found == open.end() || (ranks_per_file > 0 && found->second.ranks == ranks_per_file))
      open[host] = {result.files++, 0};
    Open& file = open[host];
    ++file.ranks;
    result.file_of_rank.push_back(file.file);
  }
  return result;
}

bool RankFiles::leads(int64_t rank) const {
  return leaders()[static_cast<size_t>(file_of_rank[static_cast<size_t>(rank)])] == rank;
}

std::vector<int64_t> RankFiles::leaders() const {
  std::vector<int64_t> ranks(static_cast<size_t>(files), -1);
  for (size_t r = 0; r < file_of_rank.size(); ++r) {
    int64_t& leader = ranks[static_cast<size_t>(file_of_rank[r])];
    if (leader < 0) leader = static_cast<int64_t>(r);
  }
  return ranks;
}

void write_checkpoint(const std::string& directory, int64_t step, const std::vector<Piece>& pieces,
                      const Json& meta, const RankFiles& files, Collectives& group,
                      const std::function<void()>& before_commit, DirectoryOf of) {
  DM_CHECK(step >= 0 && step <= kMaxStep, "step {} is beyond the format", step);
  Save(directory, step, files, group, of).run(pieces, meta, before_commit);
}

}  // namespace dm::checkpoints
