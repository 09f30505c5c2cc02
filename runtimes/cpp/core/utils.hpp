#pragma once

#include <chrono>
#include <cstdint>

/// Microseconds since the epoch.
inline uint64_t timeSinceEpochMicrosec() {
  using namespace std::chrono;
  return static_cast<uint64_t>(duration_cast<microseconds>(system_clock::now().time_since_epoch()).count());
}
