sub x13, x13, #1
add x14, x27, #2
add x15, x28, #16
add x19, x20, #16
ldrb w21, [x27, #1]
uxtb w21, w21
ldr q7, [x4, x21, LSL #4]
ldr q1, [x28]
ushr v1.16b, v1.16b, #4
tbl v2.16b, { v7.16b }, v1.16b
add v3.16b, v18.16b, v2.16b
ldrb w21, [x27, #13]
uxtb w21, w21
ldr q11, [x4, x21, LSL #4]
ldr q2, [x28, #96]
ushr v2.16b, v2.16b, #4
tbl v4.16b, { v11.16b }, v2.16b
add v4.16b, v3.16b, v4.16b
ldrb w21, [x27, #25]
uxtb w21, w21
ldr q13, [x4, x21, LSL #4]
ldr q3, [x28, #192]
ushr v3.16b, v3.16b, #4
tbl v5.16b, { v13.16b }, v3.16b
add v5.16b, v4.16b, v5.16b
ldrb w21, [x27, #37]
uxtb w21, w21
ldr q12, [x4, x21, LSL #4]
ldr q4, [x28, #288]
ushr v4.16b, v4.16b, #4
tbl v6.16b, { v12.16b }, v4.16b
add v6.16b, v5.16b, v6.16b
ldrb w21, [x27, #49]
uxtb w21, w21
ldr q9, [x4, x21, LSL #4]
ldr q5, [x28, #384]
ushr v5.16b, v5.16b, #4
tbl v16.16b, { v9.16b }, v5.16b
add v18.16b, v6.16b, v16.16b
ldr q6, [x20]
ushr v6.16b, v6.16b, #4
tbl v7.16b, { v7.16b }, v6.16b
add v16.16b, v19.16b, v7.16b
ldr q7, [x20, #96]
ushr v7.16b, v7.16b, #4
tbl v17.16b, { v11.16b }, v7.16b
add v17.16b, v16.16b, v17.16b
ldr q16, [x20, #192]
ushr v16.16b, v16.16b, #4
tbl v19.16b, { v13.16b }, v16.16b
add v19.16b, v17.16b, v19.16b
ldr q17, [x20, #288]
ushr v17.16b, v17.16b, #4
tbl v8.16b, { v12.16b }, v17.16b
add v19.16b, v19.16b, v8.16b
ldr q8, [x20, #384]
ushr v8.16b, v8.16b, #4
tbl v10.16b, { v9.16b }, v8.16b
add v19.16b, v19.16b, v10.16b
tbl v10.16b, { v11.16b }, v1.16b
add v20.16b, v20.16b, v10.16b
tbl v10.16b, { v13.16b }, v2.16b
add v20.16b, v20.16b, v10.16b
tbl v10.16b, { v12.16b }, v3.16b
add v20.16b, v20.16b, v10.16b
tbl v10.16b, { v9.16b }, v4.16b
add v20.16b, v20.16b, v10.16b
ldrb w20, [x27, #61]
uxtb w20, w20
ldr q10, [x4, x20, LSL #4]
tbl v14.16b, { v10.16b }, v5.16b
add v20.16b, v20.16b, v14.16b
tbl v11.16b, { v11.16b }, v6.16b
add v21.16b, v21.16b, v11.16b
tbl v11.16b, { v13.16b }, v7.16b
add v21.16b, v21.16b, v11.16b
tbl v11.16b, { v12.16b }, v16.16b
add v21.16b, v21.16b, v11.16b
tbl v11.16b, { v9.16b }, v17.16b
add v21.16b, v21.16b, v11.16b
tbl v11.16b, { v10.16b }, v8.16b
add v21.16b, v21.16b, v11.16b
tbl v11.16b, { v13.16b }, v1.16b
add v22.16b, v22.16b, v11.16b
tbl v11.16b, { v12.16b }, v2.16b
add v22.16b, v22.16b, v11.16b
tbl v11.16b, { v9.16b }, v3.16b
add v22.16b, v22.16b, v11.16b
tbl v11.16b, { v10.16b }, v4.16b
add v22.16b, v22.16b, v11.16b
ldrb w20, [x27, #73]
uxtb w20, w20
ldr q11, [x4, x20, LSL #4]
tbl v14.16b, { v11.16b }, v5.16b
add v22.16b, v22.16b, v14.16b
tbl v13.16b, { v13.16b }, v6.16b
add v23.16b, v23.16b, v13.16b
tbl v13.16b, { v12.16b }, v7.16b
add v23.16b, v23.16b, v13.16b
tbl v13.16b, { v9.16b }, v16.16b
add v23.16b, v23.16b, v13.16b
tbl v13.16b, { v10.16b }, v17.16b
add v23.16b, v23.16b, v13.16b
tbl v13.16b, { v11.16b }, v8.16b
add v23.16b, v23.16b, v13.16b
tbl v13.16b, { v12.16b }, v1.16b
add v24.16b, v24.16b, v13.16b
tbl v13.16b, { v9.16b }, v2.16b
add v24.16b, v24.16b, v13.16b
tbl v13.16b, { v10.16b }, v3.16b
add v24.16b, v24.16b, v13.16b
tbl v13.16b, { v11.16b }, v4.16b
add v24.16b, v24.16b, v13.16b
ldrb w20, [x27, #85]
uxtb w20, w20
ldr q13, [x4, x20, LSL #4]
tbl v14.16b, { v13.16b }, v5.16b
add v24.16b, v24.16b, v14.16b
tbl v12.16b, { v12.16b }, v6.16b
add v25.16b, v25.16b, v12.16b
tbl v12.16b, { v9.16b }, v7.16b
add v25.16b, v25.16b, v12.16b
tbl v12.16b, { v10.16b }, v16.16b
add v25.16b, v25.16b, v12.16b
tbl v12.16b, { v11.16b }, v17.16b
add v25.16b, v25.16b, v12.16b
tbl v12.16b, { v13.16b }, v8.16b
add v25.16b, v25.16b, v12.16b
tbl v12.16b, { v9.16b }, v1.16b
add v26.16b, v26.16b, v12.16b
tbl v12.16b, { v10.16b }, v2.16b
add v26.16b, v26.16b, v12.16b
tbl v12.16b, { v11.16b }, v3.16b
add v26.16b, v26.16b, v12.16b
tbl v12.16b, { v13.16b }, v4.16b
add v26.16b, v26.16b, v12.16b
ldrb w20, [x27, #97]
uxtb w20, w20
ldr q12, [x4, x20, LSL #4]
tbl v14.16b, { v12.16b }, v5.16b
add v26.16b, v26.16b, v14.16b
tbl v9.16b, { v9.16b }, v6.16b
add v27.16b, v27.16b, v9.16b
tbl v9.16b, { v10.16b }, v7.16b
add v27.16b, v27.16b, v9.16b
tbl v9.16b, { v11.16b }, v16.16b
add v27.16b, v27.16b, v9.16b
tbl v9.16b, { v13.16b }, v17.16b
add v27.16b, v27.16b, v9.16b
tbl v9.16b, { v12.16b }, v8.16b
add v27.16b, v27.16b, v9.16b
tbl v9.16b, { v10.16b }, v1.16b
add v28.16b, v28.16b, v9.16b
tbl v9.16b, { v11.16b }, v2.16b
add v28.16b, v28.16b, v9.16b
tbl v9.16b, { v13.16b }, v3.16b
add v28.16b, v28.16b, v9.16b
tbl v9.16b, { v12.16b }, v4.16b
add v28.16b, v28.16b, v9.16b
ldrb w20, [x27, #109]
uxtb w20, w20
ldr q9, [x4, x20, LSL #4]
tbl v14.16b, { v9.16b }, v5.16b
add v28.16b, v28.16b, v14.16b
tbl v10.16b, { v10.16b }, v6.16b
add v29.16b, v29.16b, v10.16b
tbl v10.16b, { v11.16b }, v7.16b
add v29.16b, v29.16b, v10.16b
tbl v10.16b, { v13.16b }, v16.16b
add v29.16b, v29.16b, v10.16b
tbl v10.16b, { v12.16b }, v17.16b
add v29.16b, v29.16b, v10.16b
tbl v10.16b, { v9.16b }, v8.16b
add v29.16b, v29.16b, v10.16b
tbl v1.16b, { v11.16b }, v1.16b
add v1.16b, v30.16b, v1.16b
tbl v2.16b, { v13.16b }, v2.16b
add v1.16b, v1.16b, v2.16b
tbl v2.16b, { v12.16b }, v3.16b
add v1.16b, v1.16b, v2.16b
tbl v2.16b, { v9.16b }, v4.16b
add v2.16b, v1.16b, v2.16b
ldrb w20, [x27, #121]
uxtb w20, w20
ldr q1, [x4, x20, LSL #4]
tbl v3.16b, { v1.16b }, v5.16b
add v30.16b, v2.16b, v3.16b
tbl v2.16b, { v11.16b }, v6.16b
add v2.16b, v31.16b, v2.16b
tbl v3.16b, { v13.16b }, v7.16b
add v2.16b, v2.16b, v3.16b
tbl v3.16b, { v12.16b }, v16.16b
add v2.16b, v2.16b, v3.16b
tbl v3.16b, { v9.16b }, v17.16b
add v2.16b, v2.16b, v3.16b
tbl v1.16b, { v1.16b }, v8.16b
add v31.16b, v2.16b, v1.16b
cbnz x13, label12 ; b label13
