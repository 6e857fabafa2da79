// The JSON of a model's metadata, read only.

#ifndef NNPKIT_JSON_H
#define NNPKIT_JSON_H

#include <map>
#include <string>
#include <vector>

namespace nnpkit {

// A value that knows its type. Asking for another type or for a key that is not there throws
// std::runtime_error.
class Json {
 public:
  static Json parse(const std::string &text);

  bool is_null() const { return type == NOTHING; }
  bool is_number() const { return type == NUMBER; }
  bool is_string() const { return type == STRING; }
  bool is_array() const { return type == ARRAY; }
  bool is_object() const { return type == OBJECT; }

  double number() const;
  long integer() const;  // a number without fraction
  bool boolean() const;
  const std::string &string() const;
  const std::vector<Json> &array() const;
  const std::map<std::string, Json> &object() const;

  const Json &at(const std::string &key) const;
  const Json *find(const std::string &key) const;  // null if there is no such key or its value is null
  double number(const std::string &key, double otherwise) const;
  std::string string(const std::string &key, const std::string &otherwise) const;
  std::vector<double> numbers() const;
  std::vector<std::string> strings() const;

 private:
  enum Type { NOTHING, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT } type = NOTHING;
  double value = 0.0;  // also of a boolean
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> fields;

  friend class JsonReader;
};

}  // namespace nnpkit

#endif
