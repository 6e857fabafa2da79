#include "pickle.h"

#include <cstring>
#include <deque>
#include <stdexcept>

namespace nnpkit {

namespace {

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("no model file: data.pkl " + what);
}

struct Value {
  enum Kind { OTHER, INTEGER, TEXT, NAME, ITEMS, PAIRS, OBJECT, TENSOR } kind = OTHER;
  int64_t integer = 0;
  std::string text;            // also of a NAME: module and name of a class
  std::vector<Value *> items;  // of a tuple or list, or keys and values in turn
  TensorView tensor;
};

// The opcodes of protocol 2 (Lib/pickletools.py of CPython) that torch's writer uses
// (torch/csrc/jit/serialization/pickler.cpp); any other is refused.
class Unpickler {
 public:
  explicit Unpickler(const std::string &bytes) : bytes(bytes) {}

  const Value &document() {
    while (!step(take(1)[0])) {
    }
    return *pop();
  }

 private:
  const std::string &bytes;
  size_t at = 0;
  std::deque<Value> arena;  // values may be shared, and live as long as this
  std::vector<Value *> stack;
  std::vector<size_t> marks;
  std::map<uint64_t, Value *> memo;

  const char *take(size_t n) {
    if (bytes.size() - at < n) fail("is cut off");
    at += n;
    return bytes.data() + at - n;
  }
  uint64_t number(int n_bytes) {
    const char *const from = take(n_bytes);
    uint64_t value = 0;
    for (int k = n_bytes - 1; k >= 0; k--) value = value << 8 | static_cast<unsigned char>(from[k]);
    return value;
  }
  std::string line() {
    const size_t end = bytes.find('\n', at);
    if (end == std::string::npos) fail("is cut off");
    const std::string text = bytes.substr(at, end - at);
    at = end + 1;
    return text;
  }

  Value *push(Value::Kind kind) {
    arena.emplace_back();
    arena.back().kind = kind;
    stack.push_back(&arena.back());
    return stack.back();
  }
  void push_integer(int64_t value) { push(Value::INTEGER)->integer = value; }
  Value *pop() {
    if (stack.empty() || (!marks.empty() && stack.size() <= marks.back())) fail("is damaged");
    Value *const top = stack.back();
    stack.pop_back();
    return top;
  }
  Value *top() {
    Value *const value = pop();
    stack.push_back(value);
    return value;
  }
  // What was pushed since the last mark, which goes.
  std::vector<Value *> pop_to_mark() {
    if (marks.empty() || marks.back() > stack.size()) fail("is damaged");
    const std::vector<Value *> values(stack.begin() + static_cast<int64_t>(marks.back()), stack.end());
    stack.resize(marks.back());
    marks.pop_back();
    return values;
  }
  void push_tuple(std::vector<Value *> items) { push(Value::ITEMS)->items = std::move(items); }
  void push_tuple(int n) {
    std::vector<Value *> items(n);
    for (int k = n - 1; k >= 0; k--) items[k] = pop();
    push_tuple(std::move(items));
  }
  void extend(Value::Kind kind, const std::vector<Value *> &items) {
    Value *const target = top();
    if (target->kind != kind) fail("is damaged");
    target->items.insert(target->items.end(), items.begin(), items.end());
  }

  // True at the end.
  bool step(char opcode) {
    switch (opcode) {
      case '\x80':
        take(1);
        break;  // PROTO
      case '.':
        return true;  // STOP
      case 'N':
        push(Value::OTHER);
        break;  // NONE
      case '\x88':
        push_integer(1);
        break;  // NEWTRUE
      case '\x89':
        push_integer(0);
        break;  // NEWFALSE
      case 'K':
        push_integer(number(1));
        break;  // BININT1
      case 'M':
        push_integer(number(2));
        break;  // BININT2
      case 'J':
        push_integer(static_cast<int32_t>(number(4)));
        break;  // BININT
      case '\x8a':
        push_long(number(1));
        break;  // LONG1
      case 'G':
        take(8), push(Value::OTHER);
        break;  // BINFLOAT
      case 'X':
        push_text(number(4));
        break;  // BINUNICODE
      case 'c':
        push_name();
        break;  // GLOBAL
      case '(':
        marks.push_back(stack.size());
        break;  // MARK
      case ')':
        push(Value::ITEMS);
        break;  // EMPTY_TUPLE
      case ']':
        push(Value::ITEMS);
        break;  // EMPTY_LIST
      case '}':
        push(Value::PAIRS);
        break;  // EMPTY_DICT
      case 't':
        push_tuple(pop_to_mark());
        break;  // TUPLE
      case '\x85':
        push_tuple(1);
        break;  // TUPLE1
      case '\x86':
        push_tuple(2);
        break;  // TUPLE2
      case '\x87':
        push_tuple(3);
        break;  // TUPLE3
      case 'a':
        extend_by(Value::ITEMS, 1);
        break;  // APPEND
      case 'e':
        extend(Value::ITEMS, pop_to_mark());
        break;  // APPENDS
      case 's':
        extend_by(Value::PAIRS, 2);
        break;  // SETITEM
      case 'u':
        extend(Value::PAIRS, pop_to_mark());
        break;  // SETITEMS
      case 'q':
        memo[number(1)] = top();
        break;  // BINPUT
      case 'r':
        memo[number(4)] = top();
        break;  // LONG_BINPUT
      case 'h':
        recall(number(1));
        break;  // BINGET
      case 'j':
        recall(number(4));
        break;  // LONG_BINGET
      case '\x81':
        pop(), pop(), push(Value::OBJECT);
        break;  // NEWOBJ
      case 'Q':
        push_storage(*pop());
        break;  // BINPERSID
      case 'R':
        reduce();
        break;  // REDUCE
      case 'b':
        build();
        break;  // BUILD
      default:
        fail("has an instruction that no model needs");
    }
    return false;
  }

  void extend_by(Value::Kind kind, int n) {
    std::vector<Value *> items(n);
    for (int k = n - 1; k >= 0; k--) items[k] = pop();
    extend(kind, items);
  }
  void push_long(uint64_t length) {
    if (length > 8) fail("has a number that is too long");
    const uint64_t value = number(static_cast<int>(length));
    const int missing = 64 - 8 * static_cast<int>(length);
    push_integer(length == 0 ? 0 : static_cast<int64_t>(value << missing) >> missing);
  }
  void push_text(uint64_t length) {
    const char *const from = take(length);
    push(Value::TEXT)->text.assign(from, length);
  }
  void push_name() {
    const std::string module = line(), name = line();
    push(Value::NAME)->text = module + " " + name;
  }
  void recall(uint64_t index) {
    const auto found = memo.find(index);
    if (found == memo.end()) fail("is damaged");
    stack.push_back(found->second);
  }

  // ("storage", type, file, device, numbers)
  void push_storage(const Value &description) {
    const auto &parts = description.items;
    if (description.kind != Value::ITEMS || parts.size() != 5 || parts[1]->kind != Value::NAME ||
        parts[2]->kind != Value::TEXT)
      fail("is damaged");
    Value *const storage = push(Value::OTHER);
    storage->tensor.storage_type = parts[1]->text;
    storage->tensor.storage = parts[2]->text;
  }

  static std::vector<int64_t> integers(const Value &value) {
    std::vector<int64_t> found;
    for (const Value *const item : value.items) {
      if (item->kind != Value::INTEGER) fail("is damaged");
      found.push_back(item->integer);
    }
    return found;
  }

  // The call of a function: only that which makes a tensor of (storage, offset, shape, strides, ...) matters
  // here.
  void reduce() {
    const Value &arguments = *pop(), &function = *pop();
    if (function.kind != Value::NAME || arguments.kind != Value::ITEMS) fail("is damaged");
    if (function.text != "torch._utils _rebuild_tensor_v2") {
      push(Value::OTHER);
      return;
    }
    const auto &parts = arguments.items;
    if (parts.size() < 4 || parts[0]->tensor.storage.empty() || parts[1]->kind != Value::INTEGER)
      fail("is damaged");
    Value *const made = push(Value::TENSOR);
    made->tensor = parts[0]->tensor;
    made->tensor.offset = parts[1]->integer;
    made->tensor.shape = integers(*parts[2]);
    made->tensor.strides = integers(*parts[3]);
    if (made->tensor.shape.size() != made->tensor.strides.size()) fail("is damaged");
  }

  void build() {
    const Value &state = *pop();
    Value *const object = top();
    if (object->kind != Value::OBJECT || state.kind != Value::PAIRS) fail("is damaged");
    object->items = state.items;
  }
};

constexpr int DEEPEST = 32;              // of modules in modules
constexpr size_t MOST_VALUES = 1000000;  // shared values are visited each time they are named

class Collector {
 public:
  std::map<std::string, TensorView> tensors;

  void visit(const Value &object, const std::string &prefix, int depth) {
    if (depth > DEEPEST) fail("has too many modules in modules");
    for (size_t k = 0; k + 1 < object.items.size(); k += 2) {
      const Value &key = *object.items[k], &value = *object.items[k + 1];
      if (++visited > MOST_VALUES) fail("is too large");
      if (key.kind != Value::TEXT) continue;
      if (value.kind == Value::TENSOR) tensors[prefix + key.text] = value.tensor;
      if (value.kind == Value::OBJECT) visit(value, prefix + key.text + ".", depth + 1);
    }
  }

 private:
  size_t visited = 0;
};

}  // namespace

std::map<std::string, TensorView> tensors_of_pickle(const std::string &bytes) {
  Unpickler unpickler(bytes);
  const Value &module = unpickler.document();
  if (module.kind != Value::OBJECT) fail("holds no module");
  Collector collector;
  collector.visit(module, "", 0);
  return collector.tensors;
}

}  // namespace nnpkit
