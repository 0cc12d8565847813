#pragma once
// Structs as JSON objects: a struct names its members once, for reading and writing, in
//   template <class Io> void fields(Io& io, Point& v) { io.field("x", v.x); io.field("y", v.y); }
// beside it in namespace rnbd::daemon. For .cc files only: nlohmann's header is heavy.

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rnbd::daemon {

using Json = nlohmann::ordered_json;

// Reads members by name and remembers what did not fit; absent members keep their default.
class JsonReader {
 public:
  explicit JsonReader(const Json& object) : object_(object), ok_(object.is_object()) {}
  void field(const char* name, std::string& value) {
    if (const Json* j = find(name))
      j->is_string() ? void(value = j->get<std::string>()) : spoil(name);
  }
  void field(const char* name, bool& value) {
    if (const Json* j = find(name)) j->is_boolean() ? void(value = j->get<bool>()) : spoil(name);
  }
  template <class T>
  requires std::is_integral_v<T>
  void field(const char* name, T& value) {
    const Json* j = find(name);
    if (j == nullptr) return;
    if (j->is_number_unsigned()) {
      auto number = j->get<std::uint64_t>();
      if (std::in_range<T>(number))
        value = static_cast<T>(number);
      else
        spoil(name);
    } else if (j->is_number_integer()) {
      auto number = j->get<std::int64_t>();
      if (std::in_range<T>(number))
        value = static_cast<T>(number);
      else
        spoil(name);
    } else {
      spoil(name);
    }
  }
  void field(const char* name, std::vector<std::string>& values) {
    const Json* j = find(name);
    if (j == nullptr) return;
    if (!j->is_array()) return spoil(name);
    for (const Json& item : *j)
      item.is_string() ? void(values.push_back(item.get<std::string>())) : spoil(name);
  }
  void field(const char* name, std::vector<std::uint64_t>& values) {
    const Json* j = find(name);
    if (j == nullptr) return;
    if (!j->is_array()) return spoil(name);
    for (const Json& item : *j)
      item.is_number_unsigned() ? void(values.push_back(item.get<std::uint64_t>())) : spoil(name);
  }
  template <class T>
  requires std::is_class_v<T>
  void field(const char* name, std::vector<T>& values) {
    const Json* j = find(name);
    if (j == nullptr) return;
    if (!j->is_array()) return spoil(name);
    for (const Json& item : *j) {
      JsonReader reader(item);
      fields(reader, values.emplace_back());
      if (!reader.ok()) spoil(name);
    }
  }
  template <class T>
  void object(const char* name, T& value) {
    const Json* j = find(name);
    if (j == nullptr) return;
    JsonReader reader(*j);
    fields(reader, value);
    if (!reader.ok()) spoil(name);
  }
  bool ok() const { return ok_; }
  const std::string& bad() const { return bad_; }

 private:
  const Json* find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    auto at = object_.find(name);
    return at == object_.end() ? nullptr : &*at;
  }
  void spoil(const char* name) {
    ok_ = false;
    if (bad_.empty()) bad_ = name;
  }
  const Json& object_;
  bool ok_;
  std::string bad_;
};

class JsonWriter {
 public:
  template <class T>
  void field(const char* name, const T& value) {
    json[name] = value;
  }
  template <class T>
  requires(std::is_class_v<T> &&
           !std::is_same_v<T, std::string>) void field(const char* name,
                                                       const std::vector<T>& values) {
    Json& array = json[name] = Json::array();
    for (const T& value : values) array.push_back(write(value));
  }
  template <class T>
  void object(const char* name, const T& value) {
    json[name] = write(value);
  }
  template <class T>
  static Json write(const T& value) {
    JsonWriter writer;
    fields(writer, const_cast<T&>(value));  // fields() names members for both directions
    return std::move(writer.json);
  }
  Json json = Json::object();
};

}  // namespace rnbd::daemon
