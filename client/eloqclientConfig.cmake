# find_package(eloqclient): targets eloqclient::eloqclient and eloqclient::eloqclient_static.
include(${CMAKE_CURRENT_LIST_DIR}/eloqclientTargets.cmake)
