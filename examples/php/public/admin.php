<?php
// SPDX-License-Identifier: Apache-2.0

// A page for a group.

if (!in_array('admins', explode(',', $_SERVER['HTTP_REMOTE_GROUPS'] ?? ''), true)) {
    http_response_code(403);
    exit("For admins only.\n");
}
echo "Only admins read this.\n";
