// SPDX-License-Identifier: Apache-2.0
// The names of bad_names.cc as they should be: test_clang_tidy.py expects silence.
namespace good_namespace {
struct GoodStruct {
  int good_member = 0;
};
class GoodClass {
 public:
  void GoodMethod();
  int accessor() const { return good_member_; }

 private:
  int good_member_ = 0;
};
enum class GoodEnum { kGoodConstant };
constexpr int kGoodConstexpr = 1;
int GoodFunction(int good_parameter) { return good_parameter + kGoodConstexpr; }
}  // namespace good_namespace
