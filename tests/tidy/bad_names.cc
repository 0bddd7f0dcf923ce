// SPDX-License-Identifier: Apache-2.0
// Every line breaks one naming rule of .clang-tidy: test_clang_tidy.py counts what is reported.
namespace BadNamespace {
struct bad_struct {
  int BadMember = 0;
};
class GoodClass {
 public:
  void bad_Method();

 private:
  int missing_suffix = 0;
};
enum class GoodEnum { bad_constant };
constexpr int bad_constexpr = 1;
void bad_function(int BadParameter) { int BadVariable = BadParameter + bad_constexpr; }
}  // namespace BadNamespace
