<?php
// SPDX-License-Identifier: Apache-2.0

// An application that answers with what it reads: name and base64 of the value.
$report = ['server' => [], 'body' => base64_encode(file_get_contents('php://input'))];
foreach ($_SERVER as $name => $value) {
    if (is_string($value)) {
        $report['server'][] = [(string) $name, base64_encode($value)];
    }
}
header('Content-Type: application/json');
echo json_encode($report);
