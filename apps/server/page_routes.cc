// SPDX-License-Identifier: Apache-2.0
// The chat page: three files that are part of the program.
#include "apps/server/page_files.h"
#include "apps/server/routes.h"

namespace hga::server {

void GetPage(Service*, RouteCall call) {
  const std::string& path = call.request.path;
  HttpResponse page;
  if (path == "/page.js") {
    page.type = "text/javascript; charset=utf-8";
    page.body.assign(PageScript());
  } else if (path == "/page.css") {
    page.type = "text/css; charset=utf-8";
    page.body.assign(PageStyle());
  } else {
    page.type = "text/html; charset=utf-8";
    page.body.assign(PageDocument());
  }
  // Text of models and files is shown: nothing of it may run, and nothing leaves for elsewhere.
  page.headers = {{"Content-Security-Policy",
                   "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                   "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                  {"Referrer-Policy", "no-referrer"},
                  {"Cache-Control", "no-cache"}};
  call.writer->Respond(std::move(page));
}

}  // namespace hga::server
