// Client of the AWS Lambda Runtime API: serves one invocation at a time until the host closes the connection.

#include "core.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include <curl/curl.h>

namespace {

using rapidjson::Document;
using rapidjson::Value;

/// What the Runtime API answered.
struct Answer {
  long status = 0;
  std::map<std::string, std::string> headers;
  std::string body;
};

std::string trimmed(const std::string& text) {
  const char* blanks = " \t\r\n";
  const auto begin = text.find_first_not_of(blanks);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

size_t take_body(char* data, size_t size, size_t count, void* answer) {
  static_cast<Answer*>(answer)->body.append(data, size * count);
  return size * count;
}

size_t take_header(char* data, size_t size, size_t count, void* answer) {
  const std::string line(data, size * count);
  const auto colon = line.find(':');
  if (colon != std::string::npos) {
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    static_cast<Answer*>(answer)->headers[name] = trimmed(line.substr(colon + 1));
  }
  return size * count;
}

/// A kept-alive connection to the Runtime API. curl switches Nagle's algorithm off and sends head and body together; both
/// matter, because a delayed acknowledgement costs some 40 ms a call.
class Connection {
 public:
  explicit Connection(const std::string& address) : base_("http://" + address + "/2018-06-01/runtime"), curl_(curl_easy_init()) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { curl_easy_cleanup(curl_); }

  /// Asks for work.
  bool get(const std::string& path, Answer& answer) {
    prepare(path, answer);
    curl_easy_setopt(curl_, CURLOPT_HTTPGET, 1L);
    return perform(answer, nullptr);
  }

  /// Hands in an answer; kind names the type of an error and is empty otherwise.
  bool post(const std::string& path, const std::string& body, const std::string& kind, Answer& answer) {
    prepare(path, answer);
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (!kind.empty()) {
      headers = curl_slist_append(headers, ("Lambda-Runtime-Function-Error-Type: " + kind).c_str());
    }
    curl_easy_setopt(curl_, CURLOPT_POST, 1L);
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    return perform(answer, headers);
  }

  const char* error() const { return error_; }

 private:
  void prepare(const std::string& path, Answer& answer) {
    answer = Answer();
    curl_easy_reset(curl_);
    curl_easy_setopt(curl_, CURLOPT_URL, (base_ + path).c_str());
    curl_easy_setopt(curl_, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, error_);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl_, CURLOPT_HEADERDATA, &answer);
  }

  bool perform(Answer& answer, curl_slist* headers) {
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
    const CURLcode code = curl_easy_perform(curl_);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
      if (error_[0] == '\0') {
        std::snprintf(error_, sizeof error_, "%s", curl_easy_strerror(code));
      }
      return false;
    }
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &answer.status);
    return true;
  }

  std::string base_;
  CURL* curl_;
  char error_[CURL_ERROR_SIZE] = "";
};

void flush() {
  std::fflush(stdout);
  std::fflush(stderr);
}

/// The object that tells of a failure. Text that is not UTF-8 is left out rather than the whole error.
std::string describe(const sebs::Failure& failure, const std::string& request_id) {
  Document body(rapidjson::kObjectType);
  auto& memory = body.GetAllocator();
  const auto text = [&memory](const std::string& s) { return Value(s.c_str(), static_cast<rapidjson::SizeType>(s.size()), memory); };
  body.AddMember("errorType", text(failure.type), memory);
  body.AddMember("errorMessage", text(failure.message), memory);
  body.AddMember("stackTrace", Value(rapidjson::kArrayType), memory);
  body.AddMember("requestId", text(request_id), memory);
  std::string out;
  if (!sebs::write(body, out)) {
    body["errorMessage"].SetString("the message of the error is not UTF-8");
    sebs::write(body, out);
  }
  return out;
}

/// Serves one invocation; false when the host is gone.
bool serve(Connection& connection) {
  Answer work;
  if (!connection.get("/invocation/next", work)) {
    return false;
  }
  if (work.status != 200) {
    std::fprintf(stderr, "the Runtime API answered %ld to a request for work\n", work.status);
    return false;
  }
  const std::string id = work.headers["lambda-runtime-aws-request-id"];
  setenv("_X_AMZN_TRACE_ID", work.headers["lambda-runtime-trace-id"].c_str(), 1);

  std::string answer;
  sebs::Failure failure;
  const bool ok = sebs::invoke(work.body, id, answer, failure);
  Answer taken;
  if (!ok) {
    // The log gets what the caller gets: a function's log must explain itself.
    std::fprintf(stderr, "[ERROR] %s: %s\n", failure.type.c_str(), failure.message.c_str());
    flush();
    // Names of types may carry blanks; what stands in the header is the same text on one line.
    return connection.post("/invocation/" + id + "/error", describe(failure, id), failure.type, taken);
  }
  // A text as body is what function URLs and API Gateway take; without statusCode they would wrap it once more.
  Document response(rapidjson::kObjectType);
  auto& memory = response.GetAllocator();
  response.AddMember("statusCode", 200, memory);
  response.AddMember("body", rapidjson::StringRef(answer.c_str(), answer.size()), memory);
  std::string body;
  sebs::write(response, body);
  flush();
  if (!connection.post("/invocation/" + id + "/response", body, "", taken)) {
    return false;
  }
  if (taken.status >= 300) {
    std::fprintf(stderr, "[ERROR] the Runtime API answered %ld to the response of %s: %.500s\n", taken.status, id.c_str(), taken.body.c_str());
    flush();
  }
  return true;
}

}  // namespace

int main() {
  // Lines reach the log as they are written, so that they survive a kill.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  const char* address = std::getenv("AWS_LAMBDA_RUNTIME_API");
  if (address == nullptr || *address == '\0') {
    std::fprintf(stderr, "AWS_LAMBDA_RUNTIME_API is not set; give the Runtime API's host:port\n");
    return 1;
  }
  curl_global_init(CURL_GLOBAL_NOTHING);
  Connection connection(address);
  while (serve(connection)) {
  }
  std::fprintf(stderr, "the Runtime API at %s closed the connection: %s\n", address, connection.error());
  return 1;
}
