#pragma once

#include <string>

#include <rapidjson/document.h>

namespace sebs {

/// Why an invocation failed: what the Runtime API calls errorType and errorMessage.
struct Failure {
  std::string type;
  std::string message;
};

/// Writes a value. False where it holds what JSON has no form of: NaN, infinity, text that is not UTF-8.
bool write(const rapidjson::Value& value, std::string& out);

/// Calls a benchmark's function and makes the answer of the suite around it, the same on every platform.
///
/// The event is the payload of one invocation, perhaps wrapped in an HTTP-style event. Returns false with the failure when
/// the function fails; otherwise answer is a JSON object as text.
bool invoke(const std::string& payload, const std::string& request_id, std::string& answer, Failure& failure);

}  // namespace sebs
