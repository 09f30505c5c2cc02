#include <chrono>
#include <thread>

#include <rapidjson/document.h>

rapidjson::Document function(const rapidjson::Value& request) {
  const double seconds = request["sleep"].GetDouble();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  rapidjson::Document answer(rapidjson::kObjectType);
  answer.AddMember("result", rapidjson::Value(request["sleep"], answer.GetAllocator()), answer.GetAllocator());
  return answer;
}
