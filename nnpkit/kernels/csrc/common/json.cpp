#include "json.h"

#include <cmath>
#include <cstdlib>
#include <stdexcept>

namespace nnpkit {

namespace {
[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("metadata: " + what);
}
constexpr int DEEPEST = 64;
}  // namespace

class JsonReader {
 public:
  explicit JsonReader(const std::string &text) : text(text) {}

  Json document() {
    Json result = value(0);
    skip_space();
    if (at != text.size()) fail("text after the JSON value");
    return result;
  }

 private:
  const std::string &text;
  size_t at = 0;

  char peek() const { return at < text.size() ? text[at] : '\0'; }
  void skip_space() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r'))
      at++;
  }
  void expect(char wanted) {
    skip_space();
    if (peek() != wanted)
      fail(std::string("no JSON: expected '") + wanted + "' at byte " + std::to_string(at));
    at++;
  }
  bool take(const char *word) {
    const std::string wanted = word;
    if (text.compare(at, wanted.size(), wanted) != 0) return false;
    at += wanted.size();
    return true;
  }

  Json value(int depth) {
    if (depth > DEEPEST) fail("JSON nested too deeply");
    skip_space();
    Json result;
    if (peek() == '{') {
      result.type = Json::OBJECT;
      at++;
      skip_space();
      if (peek() == '}') return at++, result;
      do {
        skip_space();
        const std::string key = quoted();
        expect(':');
        result.fields[key] = value(depth + 1);
        skip_space();
      } while (peek() == ',' && ++at);
      expect('}');
    } else if (peek() == '[') {
      result.type = Json::ARRAY;
      at++;
      skip_space();
      if (peek() == ']') return at++, result;
      do {
        result.items.push_back(value(depth + 1));
        skip_space();
      } while (peek() == ',' && ++at);
      expect(']');
    } else if (peek() == '"') {
      result.type = Json::STRING;
      result.text = quoted();
    } else if (take("true")) {
      result.type = Json::BOOLEAN;
      result.value = 1.0;
    } else if (take("false")) {
      result.type = Json::BOOLEAN;
    } else if (!take("null")) {
      result.type = Json::NUMBER;
      const char *const begin = text.c_str() + at;
      char *end = nullptr;
      if (*begin != '-' && (*begin < '0' || *begin > '9')) fail("no JSON at byte " + std::to_string(at));
      result.value = std::strtod(begin, &end);
      if (end == begin || !std::isfinite(result.value)) fail("no number at byte " + std::to_string(at));
      at += static_cast<size_t>(end - begin);
    }
    return result;
  }

  std::string quoted() {
    expect('"');
    std::string result;
    while (peek() != '"') {
      if (at >= text.size()) fail("a JSON string does not end");
      if (peek() != '\\') {
        result += text[at++];
        continue;
      }
      at++;
      const char escaped = peek();
      at++;
      static const std::string from = "bfnrt", to = "\b\f\n\r\t";
      const size_t known = from.find(escaped);
      if (escaped == 'u')
        result += code_point();
      else
        result += (known != std::string::npos) ? to[known] : escaped;
    }
    at++;
    return result;
  }

  // \u00e5 as UTF-8; the halves of a pair are written one by one, which nothing here minds
  std::string code_point() {
    unsigned code = 0;
    for (int digit = 0; digit < 4; digit++) {
      const char c = peek();
      const int value = (c >= '0' && c <= '9')   ? c - '0'
                        : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                        : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                 : -1;
      if (value < 0) fail("a damaged \\u in a JSON string");
      code = 16 * code + static_cast<unsigned>(value);
      at++;
    }
    std::string result;
    if (code < 0x80) {
      result += static_cast<char>(code);
    } else if (code < 0x800) {
      result += static_cast<char>(0xC0 | (code >> 6));
      result += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      result += static_cast<char>(0xE0 | (code >> 12));
      result += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      result += static_cast<char>(0x80 | (code & 0x3F));
    }
    return result;
  }
};

Json Json::parse(const std::string &text) {
  return JsonReader(text).document();
}

double Json::number() const {
  if (type != NUMBER) fail("a number was expected");
  return value;
}

long Json::integer() const {
  const double found = number();
  if (found != std::floor(found) || std::abs(found) > 1.0e15) fail("a whole number was expected");
  return static_cast<long>(found);
}

bool Json::boolean() const {
  if (type != BOOLEAN) fail("true or false was expected");
  return value != 0.0;
}

const std::string &Json::string() const {
  if (type != STRING) fail("a text was expected");
  return text;
}

const std::vector<Json> &Json::array() const {
  if (type != ARRAY) fail("a list was expected");
  return items;
}

const std::map<std::string, Json> &Json::object() const {
  if (type != OBJECT) fail("a mapping was expected");
  return fields;
}

const Json *Json::find(const std::string &key) const {
  const auto found = object().find(key);
  return found == fields.end() || found->second.is_null() ? nullptr : &found->second;
}

const Json &Json::at(const std::string &key) const {
  const auto found = object().find(key);
  if (found == fields.end()) fail("'" + key + "' is missing");
  return found->second;
}

double Json::number(const std::string &key, double otherwise) const {
  const Json *const found = find(key);
  return found ? found->number() : otherwise;
}

std::string Json::string(const std::string &key, const std::string &otherwise) const {
  const Json *const found = find(key);
  return found ? found->string() : otherwise;
}

std::vector<double> Json::numbers() const {
  std::vector<double> result;
  for (const Json &item : array()) result.push_back(item.number());
  return result;
}

std::vector<std::string> Json::strings() const {
  std::vector<std::string> result;
  for (const Json &item : array()) result.push_back(item.string());
  return result;
}

}  // namespace nnpkit
