#include "checkpoints/torch_state_dict.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>

#include "checkpoints/boxes.h"
#include "checkpoints/directory.h"
#include "checkpoints/zip_entries.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

constexpr int64_t kMaxPickleBytes = 64 << 20;
constexpr size_t kMaxStack = 1 << 20;
constexpr int64_t kMaxValues = 1 << 21;  // some 400 MB of them; a model of thousands of tensors makes 10^5
constexpr int kMaxDepth = 32;            // of tuples and dicts in each other: dropping them recurses

/// What the machine's stack holds.
struct Value {
  enum class Kind { none, boolean, integer, text, global, tuple, dict, mark, storage, tensor };
  explicit Value(Kind of, int64_t number = 0, std::string words = "")
      : kind(of), integer(number), text(std::move(words)) {}
  const std::vector<Value>& items() const {
    static const std::vector<Value> none;
    return shared ? *shared : none;
  }
  Kind kind;
  int64_t integer;
  std::string text;  // also of globals, as "module name", and of storages, their entry
  // Of a tuple; of a dict keys and values in turn. Shared with copies in memos: otherwise a few bytes of
  // pickle could double a value again and again.
  std::shared_ptr<std::vector<Value>> shared;
  int depth = 0;  // of tuples and dicts in it
  ForeignTensor tensor;
};
using Kind = Value::Kind;

/// Some of pickle's opcodes, which are letters in its own table.
struct Opcode {
  static constexpr unsigned char none = 0x4E, binint1 = 0x4B, binint2 = 0x4D, binint = 0x4A,
                                 binunicode = 0x58, binpersid = 0x51, reduce = 0x52;
};

class Machine {
 public:
  Machine(const std::string& pickle, const std::string& path, const std::map<std::string, ZipEntry>& entries,
          const std::string& prefix)
      : pickle_(pickle), path_(path), entries_(entries), prefix_(prefix) {}

  /// Runs to the end: what it leaves is the state dict.
  Value run() {
    while (true) {
      const auto opcode = static_cast<unsigned char>(take(1)[0]);
      if (opcode == '.') break;
      step(opcode);
      require(stack_.size() <= kMaxStack, "a stack beyond bounds");
    }
    Value result = pop();
    require(stack_.empty() && result.kind == Kind::dict, "something other than a dict at its end");
    return result;
  }

 private:
  void step(unsigned char opcode) {
    switch (opcode) {
      case 0x80: require(take(1)[0] <= 5, "an unknown protocol"); break;
      case 0x95: take(8); break;  // a frame's length
      case '}': push(Value(Kind::dict)); break;
      case ')': push(Value(Kind::tuple)); break;
      case Opcode::none: push(Value(Kind::none)); break;
      case 0x88:
      case 0x89: push(Value(Kind::boolean, opcode == 0x88)); break;
      case Opcode::binint1: push(Value(Kind::integer, unsigned_number(1))); break;
      case Opcode::binint2: push(Value(Kind::integer, unsigned_number(2))); break;
      case Opcode::binint: push(Value(Kind::integer, static_cast<int32_t>(unsigned_number(4)))); break;
      case 0x8a: push(Value(Kind::integer, long_number())); break;
      case Opcode::binunicode:
        push(Value(Kind::text, 0, take(static_cast<size_t>(unsigned_number(4)))));
        break;
      case 0x8c: push(Value(Kind::text, 0, take(static_cast<size_t>(unsigned_number(1))))); break;
      case '(': push(Value(Kind::mark)); break;
      case 't': push(tuple(to_mark())); break;
      case 0x85: push(tuple(last(1))); break;
      case 0x86: push(tuple(last(2))); break;
      case 0x87: push(tuple(last(3))); break;
      case 'q': remember(unsigned_number(1)); break;
      case 'r': remember(unsigned_number(4)); break;
      case 0x94: remember(static_cast<int64_t>(memo_.size())); break;
      case 'h': push(recall(unsigned_number(1))); break;
      case 'j': push(recall(unsigned_number(4))); break;
      case 'c': {
        const std::string module = line();
        push(global(module + " " + line()));
        break;
      }
      case Opcode::binpersid: push(storage(pop())); break;
      case Opcode::reduce: reduce(); break;
      case 'u': set_items(to_mark()); break;
      case 's': set_items(last(2)); break;
      case 'b':
        pop();
        require(top().kind == Kind::dict, "state for something other than a dict");
        break;
      default: refuse(fmt::format("the opcode {:#04x}", opcode));
    }
  }

  [[noreturn]] void refuse(const std::string& what) const {
    DM_FAIL(ExitCode::bad_data, "{}: its pickle has {} at byte {}; only state dicts of tensors are read",
            path_, what, at_);
  }
  void require(bool good, const char* what) const {
    if (!good) refuse(what);
  }

  std::string take(size_t count) {
    require(count <= pickle_.size() - at_, "an end before its end");
    at_ += count;
    return pickle_.substr(at_ - count, count);
  }
  int64_t unsigned_number(size_t bytes) {
    const std::string text = take(bytes);
    uint64_t value = 0;
    std::memcpy(&value, text.data(), bytes);
    return static_cast<int64_t>(value);
  }
  int64_t long_number() {
    const auto bytes = static_cast<size_t>(unsigned_number(1));
    require(bytes <= 8, "a number of more than 64 bits");
    if (bytes == 0) return 0;
    const int64_t value = unsigned_number(bytes);
    const int shift = static_cast<int>(64 - 8 * bytes);
    return static_cast<int64_t>(static_cast<uint64_t>(value) << shift) >> shift;
  }
  std::string line() {
    const size_t end = pickle_.find('\n', at_);
    require(end != std::string::npos, "an end before its end");
    std::string text = take(end - at_);
    ++at_;
    return text;
  }

  void push(Value value) {
    made(weight(value));
    stack_.push_back(std::move(value));
  }
  /// Of a copy: texts are copied too.
  static int64_t weight(const Value& value) { return 1 + static_cast<int64_t>(value.text.size() / 128); }
  void made(int64_t values) {
    values_ += values;
    require(values_ <= kMaxValues, "values beyond bounds");
  }
  Value& top() {
    require(!stack_.empty(), "an empty stack");
    return stack_.back();
  }
  Value pop() {
    Value value = std::move(top());
    stack_.pop_back();
    return value;
  }
  std::vector<Value> last(size_t count) {
    require(count <= stack_.size(), "an empty stack");
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<Value> items(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
    stack_.erase(begin, stack_.end());
    return items;
  }
  std::vector<Value> to_mark() {
    size_t count = 0;
    while (count < stack_.size() && stack_[stack_.size() - 1 - count].kind != Kind::mark) ++count;
    require(count < stack_.size(), "no mark");
    std::vector<Value> items = last(count);
    stack_.pop_back();
    return items;
  }
  Value tuple(std::vector<Value> items) {
    Value value(Kind::tuple);
    put(std::move(items), value);
    return value;
  }
  void put(std::vector<Value> items, Value& into) {
    if (into.shared.use_count() != 1) {  // none yet, or one that a memo has too
      made(static_cast<int64_t>(into.items().size()));
      into.shared = std::make_shared<std::vector<Value>>(into.items());
    }
    for (Value& item : items) {
      into.depth = std::max(into.depth, item.depth + 1);
      into.shared->push_back(std::move(item));
    }
    require(into.depth <= kMaxDepth, "tuples or dicts in each other beyond bounds");
  }
  const Value& recall(int64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) refuse("a memo that was never made");
    return found->second;
  }
  void remember(int64_t key) {
    made(weight(top()));
    memo_.insert_or_assign(key, top());
  }
  Value global(const std::string& name) const {
    for (const char* known :
         {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
          "torch DoubleStorage", "torch FloatStorage", "torch HalfStorage", "torch BFloat16Storage"})
      if (name == known) return Value(Kind::global, 0, name);
    refuse(fmt::format("the global '{}'", name.substr(0, 200)));
  }

  /// ('storage', type, key, device, elements)
  Value storage(const Value& id) const {
    const auto& parts = id.items();
    require(id.kind == Kind::tuple && parts.size() == 5 && parts[0].text == "storage" &&
                parts[1].kind == Kind::global && parts[2].kind == Kind::text &&
                parts[4].kind == Kind::integer,
            "a reference to something other than a storage");
    const auto entry = entries_.find(prefix_ + "data/" + parts[2].text);
    require(entry != entries_.end(), "a storage that is not in the file");
    Value value(Kind::storage, parts[4].integer, entry->first);
    const std::string& type = parts[1].text;
    using Float = ForeignTensor::Float;
    value.tensor.dtype = type == "torch DoubleStorage"  ? Float::f64
                         : type == "torch FloatStorage" ? Float::f32
                         : type == "torch HalfStorage"  ? Float::f16
                                                        : Float::bf16;
    require(type.ends_with("Storage"), "a storage of no type");
    value.tensor.offset_bytes = entry->second.offset_bytes;
    require(value.integer >= 0 && value.integer <= entry->second.size_bytes / size_bytes(value.tensor.dtype),
            "a storage beyond its entry");
    return value;
  }

  void reduce() {
    const Value arguments = pop(), function = pop();
    require(function.kind == Kind::global && arguments.kind == Kind::tuple, "a call of something unknown");
    const std::vector<Value>& items = arguments.items();
    if (function.text == "collections OrderedDict") {
      require(items.empty(), "an OrderedDict made of something");
      return push(Value(Kind::dict));
    }
    if (function.text == "torch._utils _rebuild_parameter") {
      require(!items.empty() && items[0].kind == Kind::tensor, "a parameter without a tensor");
      return push(items[0]);
    }
    require(function.text == "torch._utils _rebuild_tensor_v2", "a call of a storage");
    push(tensor(items));
  }

  /// (storage, offset, shape, strides, ...)
  Value tensor(const std::vector<Value>& items) const {
    require(items.size() >= 4 && items[0].kind == Kind::storage && items[1].kind == Kind::integer &&
                items[2].kind == Kind::tuple && items[3].kind == Kind::tuple &&
                items[2].items().size() == items[3].items().size(),
            "a tensor of other parts");
    Value value(Kind::tensor);
    value.tensor = items[0].tensor;
    for (const Value& extent : items[2].items()) {
      require(extent.kind == Kind::integer, "a shape of something other than numbers");
      value.tensor.shape.push_back(extent.integer);
    }
    const int64_t element = size_bytes(value.tensor.dtype), offset = items[1].integer;
    const auto bytes = checked_bytes(value.tensor.shape, element);
    require(bytes && offset >= 0 && offset <= items[0].integer - *bytes / element,
            "a tensor beyond its storage");
    int64_t stride = 1;
    for (size_t d = value.tensor.shape.size(); d-- > 0;) {
      require(value.tensor.shape[d] == 1 || items[3].items()[d].integer == stride,
              "a tensor that is not contiguous");
      stride *= value.tensor.shape[d];
    }
    value.tensor.offset_bytes += offset * element;
    return value;
  }

  void set_items(std::vector<Value> items) {
    require(items.size() % 2 == 0 && top().kind == Kind::dict, "items for something other than a dict");
    put(std::move(items), top());
  }

  const std::string& pickle_;
  const std::string& path_;
  const std::map<std::string, ZipEntry>& entries_;
  const std::string& prefix_;  // of the entries, "archive/"
  size_t at_ = 0;
  std::vector<Value> stack_;
  std::map<int64_t, Value> memo_;
  int64_t values_ = 0;
};

}  // namespace

ForeignTensors open_torch_state_dict(const std::string& path) {
  ForeignTensors tensors;
  File file = open_regular(path);
  const std::map<std::string, ZipEntry> entries = read_zip_entries(file);
  const auto pickle = std::find_if(entries.begin(), entries.end(),
                                   [](const auto& e) { return e.first.ends_with("/data.pkl"); });
  DM_REQUIRE(pickle != entries.end() && pickle->second.size_bytes <= kMaxPickleBytes, ExitCode::bad_data,
             "{}: holds no data.pkl of at most {} bytes", path, kMaxPickleBytes);
  const std::string prefix =
      pickle->first.substr(0, pickle->first.size() - std::string_view("data.pkl").size());
  const auto order = entries.find(prefix + "byteorder");
  std::string little = "little";
  if (order != entries.end() && order->second.size_bytes == 6)
    file.read_at(little.data(), 6, order->second.offset_bytes);
  DM_REQUIRE(little == "little", ExitCode::bad_data, "{}: of a big-endian machine", path);
  std::string text(static_cast<size_t>(pickle->second.size_bytes), '\0');
  file.read_at(text.data(), text.size(), pickle->second.offset_bytes);

  const Value dict = Machine(text, path, entries, prefix).run();
  const int64_t number = tensors.add_file(std::move(file));
  const std::vector<Value>& items = dict.items();
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    DM_REQUIRE(items[i].kind == Kind::text && items[i + 1].kind == Kind::tensor, ExitCode::bad_data,
               "{}: holds something besides tensors by name", path);
    ForeignTensor tensor = items[i + 1].tensor;
    tensor.file = number;
    tensors.add(items[i].text, std::move(tensor));
  }
  return tensors;
}

}  // namespace dm::checkpoints
