#pragma once

namespace qs {

// What CPU and operating system can run together: the levels of the x86-64 psABI, and the registers that are saved
// (XCR0).
struct Cpu {
  bool x86_64_v3 = false;
  bool x86_64_v4 = false;
};

Cpu detect_cpu() noexcept;

}  // namespace qs
