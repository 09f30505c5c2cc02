#include "core.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <random>
#include <typeinfo>

#include <rapidjson/error/en.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

/// The benchmark's function, in its main.cpp.
rapidjson::Document function(const rapidjson::Value& request);

namespace sebs {
namespace {

using rapidjson::Document;
using rapidjson::Value;
using std::chrono::microseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

/// True until the process has served an invocation.
bool cold = true;

const std::string& container_id() {
  static const std::string id = [] {
    std::random_device random;
    char text[9];
    std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(random()));
    return std::string(text);
  }();
  return id;
}

/// Seconds since the epoch as text with microseconds: "1764061200.104512".
std::string timestamp(long long micros) {
  char text[32];
  std::snprintf(text, sizeof text, "%lld.%06lld", micros / 1000000, micros % 1000000);
  return text;
}

long long now() {
  return std::chrono::duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

/// Deeper documents are refused: copying or writing them would exhaust the stack.
constexpr int max_depth = 1000;

bool too_deep(const char* text, size_t length) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < length; i++) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        i++;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) {
        return true;
      }
    } else if (c == '}' || c == ']') {
      depth--;
    }
  }
  return false;
}

/// Reads a document; what names it in the failure.
bool parse(const std::string& what, const char* text, size_t length, Document& into, Failure& failure) {
  if (too_deep(text, length)) {
    failure = {"Runtime.UnmarshalError", what + " is not JSON that can be read: it is nested more than " + std::to_string(max_depth) + " deep"};
    return false;
  }
  // The parser would take it for the end and overlook what follows.
  if (const void* null = std::memchr(text, 0, length)) {
    failure = {"Runtime.UnmarshalError",
               what + " is not JSON: a null character stands at byte " + std::to_string(static_cast<const char*>(null) - text)};
    return false;
  }
  into.Parse<rapidjson::kParseValidateEncodingFlag>(text, length);
  if (!into.HasParseError()) {
    return true;
  }
  failure = {"Runtime.UnmarshalError", what + " is not JSON: " + rapidjson::GetParseError_En(into.GetParseError()) + " at byte " +
                                           std::to_string(into.GetErrorOffset())};
  return false;
}

/// Decodes base64 (RFC 4648, section 4); as in Java's decoder the padding may be absent, but not be half there.
bool decode(const char* text, size_t length, std::string& out) {
  size_t digits = length;
  while (digits > 0 && length - digits < 2 && text[digits - 1] == '=') {
    digits--;
  }
  if (digits % 4 == 1 || (digits != length && length % 4 != 0)) {
    return false;
  }
  static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  out.clear();
  out.reserve(digits / 4 * 3 + 2);
  uint32_t bits = 0;
  int held = 0;
  for (size_t i = 0; i < digits; i++) {
    const auto digit = alphabet.find(text[i]);
    if (digit == std::string::npos) {
      return false;
    }
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(bits >> held & 0xff));
    }
  }
  return true;
}

/// Puts the payload of an HTTP-style event in the event's place: its body where that is a text.
bool unwrap(Document& event, Failure& failure) {
  if (!event.IsObject() || !event.HasMember("body") || !event["body"].IsString()) {
    return true;
  }
  const std::string what = "the request's body";
  const Value& body = event["body"];
  const char* text = body.GetString();
  size_t length = body.GetStringLength();
  std::string decoded;
  const auto encoded = event.FindMember("isBase64Encoded");
  if (encoded != event.MemberEnd() && encoded->value.IsTrue()) {
    if (!decode(text, length, decoded)) {
      failure = {"Runtime.UnmarshalError", what + " is not base64, though the event's isBase64Encoded says so"};
      return false;
    }
    text = decoded.data();
    length = decoded.size();
  }
  Document payload;
  if (!parse(what, text, length, payload, failure)) {
    return false;
  }
  event.Swap(payload);
  return true;
}

/// An upload notification has Records[0].s3; there is no object store client for functions in C++.
bool is_upload(const Value& event) {
  if (!event.IsObject()) {
    return false;
  }
  auto records = event.FindMember("Records");
  return records != event.MemberEnd() && records->value.IsArray() && !records->value.Empty() && records->value[0].IsObject() &&
         records->value[0].HasMember("s3");
}

std::string name_of_current_exception() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) {
    return "unknown";
  }
  int status = 0;
  char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string result = status == 0 ? name : type->name();
  std::free(name);
  return result;
}

/// Calls the function and measures the call alone.
bool call(const Value& event, Document& result, long long& begin, long long& elapsed, Failure& failure) {
  begin = now();
  const auto started = steady_clock::now();
  try {
    result = function(event);
  } catch (const std::exception& error) {
    failure = {name_of_current_exception(), error.what()};
    return false;
  } catch (...) {
    failure = {name_of_current_exception(), "the function threw an object that tells nothing"};
    return false;
  }
  // From the monotonic clock: a step of the wall clock during the call must not bend the duration.
  elapsed = std::chrono::duration_cast<microseconds>(steady_clock::now() - started).count();
  if (result.IsObject() && result.HasMember("error") && result["error"].IsString()) {
    failure = {"FunctionError", result["error"].GetString()};
    return false;
  }
  return true;
}

}  // namespace

bool write(const Value& value, std::string& out) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer, rapidjson::UTF8<>, rapidjson::UTF8<>, rapidjson::CrtAllocator, rapidjson::kWriteValidateEncodingFlag>
      writer(buffer);
  if (!value.Accept(writer)) {
    return false;
  }
  out.assign(buffer.GetString(), buffer.GetSize());
  return true;
}

bool invoke(const std::string& payload, const std::string& request_id, std::string& answer, Failure& failure) {
  const double income = static_cast<double>(now()) / 1e6;
  Document event;
  if (payload.empty()) {
    event.SetObject();
  } else if (!parse("the payload", payload.data(), payload.size(), event, failure)) {
    return false;
  }
  if (!unwrap(event, failure)) {
    return false;
  }
  if (is_upload(event)) {
    failure = {"Unsupported", "functions in C++ serve no upload notifications; call them over an HTTP or library trigger"};
    return false;
  }
  // Taken before the call: a cold request that fails leaves the sandbox warm for the next one.
  const bool is_cold = cold;
  cold = false;
  if (event.IsObject()) {
    auto& memory = event.GetAllocator();
    event.RemoveMember("request-id");
    event.RemoveMember("income-timestamp");
    event.AddMember("request-id", Value(request_id.c_str(), memory), memory);
    event.AddMember("income-timestamp", income, memory);
  }

  Document result;
  long long begin = 0;
  long long elapsed = 0;
  if (!call(event, result, begin, elapsed, failure)) {
    return false;
  }

  Document document(rapidjson::kObjectType);
  auto& memory = document.GetAllocator();
  const auto text = [&memory](const std::string& s) { return Value(s.c_str(), static_cast<rapidjson::SizeType>(s.size()), memory); };
  document.AddMember("begin", text(timestamp(begin)), memory);
  document.AddMember("end", text(timestamp(begin + elapsed)), memory);
  document.AddMember("results_time", 0, memory);
  document.AddMember("is_cold", is_cold, memory);
  document.AddMember("result", Value(result, memory), memory);
  document.AddMember("request_id", text(request_id), memory);
  document.AddMember("container_id", text(container_id()), memory);
  const char* cold_start = std::getenv("cold_start");
  document.AddMember("cold_start_var", text(cold_start == nullptr ? "" : cold_start), memory);
  if (!write(document, answer)) {
    failure = {"Runtime.MarshalError", "the function's return value is not JSON; return finite numbers and text in UTF-8"};
    return false;
  }
  return true;
}

}  // namespace sebs
