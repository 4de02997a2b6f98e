#pragma once
// page.html, page.css and page.js beside this header, as the build puts them into the program
// (train/CMakeLists.txt).

namespace dm::train {

extern const char* const kReportPage;
extern const char* const kReportStyle;
extern const char* const kReportScript;

}  // namespace dm::train
