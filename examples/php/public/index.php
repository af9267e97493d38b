<?php
// SPDX-License-Identifier: Apache-2.0

// An application that leaves signing in to the gate in front of it.

$user = $_SERVER['REMOTE_USER'] ?? '';
if ($user === '') {
    http_response_code(401);
    exit("This application is behind a gate, and you are not.\n");
}
$email = $_SERVER['HTTP_X_AUTHENTIQ_EMAIL'] ?? '';
$name = $_SERVER['HTTP_X_AUTHENTIQ_NAME'] ?? $user;
$groups = array_filter(explode(',', $_SERVER['HTTP_REMOTE_GROUPS'] ?? ''));

function text(string $value): string
{
    return htmlspecialchars($value, ENT_QUOTES, 'UTF-8');
}

header('Content-Type: text/html; charset=utf-8');
?>
<!doctype html>
<title>PHP behind the gate</title>
<h1>Hello, <?= text($name) ?></h1>
<dl>
<dt>REMOTE_USER<dd id="user"><?= text($user) ?>

<dt>Name<dd id="name"><?= text($name) ?>

<dt>E-mail<dd id="email"><?= text($email) ?>

<dt>Groups<dd id="groups"><?= text(implode(' ', $groups)) ?>

</dl>
<p><a href="/authentiq/sign-out?return_to=/">Sign out</a>
